#!/usr/bin/perl

# Copyright (C) The ngx_http_nixery_module authors

# Builders that pack images themselves, as Nixery's own did in 2019: one that lies
# is found out.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::Nixery;

use Digest::MD5;
use File::Copy;
use JSON::PP;

my $config = '{"architecture":"amd64"}';
my $layer = "not a layer, but what the builder says is one\n";
my %hex = (config => Digest::SHA::sha256_hex($config),
           layer => Digest::SHA::sha256_hex($layer), none => 'f' x 64);
my $oci = 'application/vnd.oci.image.manifest.v1+json';

my $t = Test::Nginx->new()->has(qw/http/)->plan(50);

prepare($t);

my $d = $t->testdir();

my $text = nixery($t, builder => "$d/packages/text.nix",
                  storage => "directory $d/texts");

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        location /v2 {
            $text
        }
    }
}

EOF

$t->run();

###############################################################################

my ($r, $result);

# a worker has its title when it answers
is(reply(http_get('/v2/'))->{status}, 200, 'base');
my ($worker) = workers($t);

# builders that lie; nothing can be seen of their images

my %paths = (config => store_add($t, 'config', $config),
             layer => store_add($t, 'layer', $layer),
             none => '/nix/store/' . '0' x 32 . '-none');

mkdir("$d/folder");
$t->write_file('folder/layer', $layer);
symlink('/etc/passwd', "$d/folder/link");
$paths{folder} = store_add($t, 'folder');

lies($t, prebuilt({ layer => $paths{config} }), 'another content',
     qr/^the\ builder\ names\ layer\ $hex{layer},\ but\ the\ SHA-256\ of
        \ "$paths{config}"\ is\ $hex{config}\ /x);
lies($t, prebuilt({ layer => $paths{none} }), 'missing file',
     qr/^the\ builder\ names\ layer\ $hex{layer},\ but\ "$paths{none}"\ can't
        \ be\ read:\ No\ such\ file/x);
lies($t, prebuilt({ layer => $paths{folder} }), 'folder',
     qr/"$paths{folder}" is not a regular file/);
lies($t, prebuilt({ layer => "$paths{folder}/none" }), 'missing file in folder',
     qr/"$paths{folder}\/none" can't be read: No such file/);
lies($t, prebuilt({ layer => "$paths{folder}/../../../etc/passwd" }), 'dots',
     qr/layer $hex{layer} has no "path" below \/nix\/store/);
lies($t, prebuilt({ layer => "$paths{folder}/link" }), 'link',
     qr/but "$paths{folder}\/link" leads out of \/nix\/store/);
lies($t, prebuilt({ layer => '/etc/passwd' }), 'outside',
     qr/layer $hex{layer} has no "path" below \/nix\/store/);
lies($t, prebuilt({}, { layer => 'AAAAAAAAAAAAAAAAAAAAAA==' }), 'MD5',
     qr/^the\ builder\ says\ the\ MD5\ of\ "$paths{layer}"\ is\ A{22}==,
        \ but\ it\ is\ /x);
lies($t, prebuilt({}, { layer => Digest::MD5::md5_hex($layer) }), 'MD5 in digits',
     qr/layer $hex{layer} has an "md5" that is not 16 bytes in base64/);
lies($t, prebuilt() =~ s/"$hex{layer}":/"sha256:$hex{layer}":/r, 'key',
     qr/which is not a SHA-256 in hexadecimal/);
lies($t, prebuilt() =~ s/"$hex{layer}":/"$hex{none}":/r, 'no location',
     qr/layer $hex{layer} of the manifest is missing in "layerLocations"/);
lies($t, prebuilt() =~ s/"$hex{config}":/"$hex{none}":/r, 'no config',
     qr/config $hex{config} of the manifest is missing in "layerLocations"/);
lies($t, prebuilt() =~ s/"sha256:$hex{layer}"/"md5:$hex{layer}"/r, 'algorithm',
     qr/a layer of the manifest has no sha256 digest/);
lies($t, prebuilt() =~ s/"layers" *: *\[/"layers":{"a":[/r =~ s/\]/]}/r, 'layers',
     qr/the manifest's "layers" is not a list/);
lies($t, prebuilt() =~ s/"manifest": \{.*/"manifest": "text"}/sr, 'text',
     qr/"manifest" is not an object/);
lies($t, prebuilt() =~ s/"layerLocations"/"layers"/r, 'no locations',
     qr/"layerLocations" is not an object/);

is(join(' ', objects($t, 'layers', "$d/texts")), $hex{config},
   'the config alone was true');

# what it says beside blobs that are true

lies($t, prebuilt({ none => $paths{layer} }), 'another content, not named',
     qr/^the builder names layer $hex{none}, but the SHA-256 of /);
lies($t, prebuilt() =~ s/"size" : 46/"size" : 47/r, 'size',
     qr/the manifest says blob $hex{layer} has 47 bytes, but it has 46/);
lies($t, prebuilt() =~ s/"size" : 46/"size":"46"/r, 'no size',
     qr/the manifest has a blob without digest and size/);
lies($t, prebuilt() =~ s/"schemaVersion" : 2/"schemaVersion" : 1/r, 'version',
     qr/manifest has neither the type nor the shape of one/);

# a manifest that names no type, an MD5 that is right

my $md5 = Digest::MD5::md5_base64($layer) . '==';

$result = prebuilt({}, { layer => $md5 });
text_result($t, $result);

$r = manifest('x');
is(whole($r), '', 'image');
is($r->{headers}{'content-type'}, $oci, 'type');
is($r->{headers}{'content-length'}, length($r->{body}), 'length');
like($result, qr/"manifest": \Q$r->{body}\E\}$/, 'bytes');

$r = reply(http_get("/v2/x/blobs/sha256:$hex{layer}"));
is($r->{body}, $layer, 'layer');

# an object that was stored before is as good as the builder's file

text_result($t, prebuilt({ layer => $paths{config} }));
refused(manifest('x'), 500, 'UNKNOWN', qr/SHA-256 of/, 'another size');

is(truth($t, "$d/texts"), '', 'storage');
ok(eventually(sub { left_over($t) eq '' && !children($worker) }),
   'nothing left');

###############################################################################

# A result with odd spaces; with other paths of its blobs, and MD5s.

sub prebuilt {
    my ($other, $md5s) = @_;

    my %path = (config => $paths{config}, layer => $paths{layer},
                %{$other // {}});

    my $locations = join ",\n", map {
        my $md5 = $md5s->{$_} ? qq(,\n"md5" : "$md5s->{$_}") : '';
        qq("$hex{$_}":{"path":"$path{$_}"$md5})
    } sort keys %path;

    return qq({"layerLocations" : {$locations}, "manifest": {\t "layers" : [{)
        . qq("digest" :\r\n"sha256:$hex{layer}","size" : 46 }],\n)
        . qq("config":{"size" : 24,"digest":"sha256:$hex{config}"} ,)
        . qq("a\\u00e4" :1e2,   "schemaVersion" : 2 }});
}


# Two tests: an image that is refused, and that nobody can see.

sub lies {
    my ($test, $content, $name, $like) = @_;

    text_result($test, $content);
    refused(manifest('x'), 500, 'UNKNOWN', $like, $name);

    is(join(' ', grep { $_ } truth($test, "$d/texts"),
                             objects($test, 'manifests', "$d/texts")),
       '', "$name, nothing visible");

    return;
}

###############################################################################

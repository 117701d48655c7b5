#!/bin/sh
# collect.sh BIN IMAGE: lays out the file system of the final image in IMAGE. The programs of BIN and the
# libraries that only they need come under /usr/local, so that an image of your own takes them with one line
# (COPY --from=sluice /usr/local /usr/local); what every Debian image has stays in its places.
set -eu
bin=$1 image=$2
programs="$bin/sluice-broker $bin/sluice-worker $bin/sluice"

mkdir -p "$image/usr/local/bin" "$image/usr/local/lib" "$image/bin" "$image/etc/ssl/certs" "$image/tmp" \
  "$image/var/lib/sluice"
install -s $programs "$image/usr/local/bin"

ldd $programs /bin/busybox | grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do
  case $library in
    */ld-linux*.so.* | */libc.so.* | */libm.so.* | */libresolv.so.* | */libstdc++.so.* | */libgcc_s.so.*)
      cp -L --parents "$library" "$image" ;;
    *) cp -L "$library" "$image/usr/local/lib" ;;
  esac
done
printf '/usr/local/lib\n' >"$image/etc/ld.so.conf"
ldconfig -r "$image"

# A shell and the small programs of every day: for health checks, and for a look inside.
cp /bin/busybox "$image/bin"
for name in $(busybox --list); do
  [ "$name" = busybox ] || ln -s busybox "$image/bin/$name"
done

cp /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs"
printf 'root:x:0:0:root:/:/bin/sh\nsluice:x:10001:10001:Sluice:/var/lib/sluice:/bin/sh\n' >"$image/etc/passwd"
printf 'root:x:0:\nsluice:x:10001:\n' >"$image/etc/group"
# Copied into an image they belong to root; whoever runs the programs may write here.
chmod 1777 "$image/tmp" "$image/var/lib/sluice"

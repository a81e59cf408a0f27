# The cases on SMB: $S is the directory on the server, $A the client's.
. /job/lib.sh
title=SMB
S=/srv/smb
A=/mnt/smb

cat >/etc/samba/smb.conf <<'END'
[global]
 server role = standalone
 map to guest = bad user
 guest account = root
 disable netbios = yes
 smb ports = 445
 load printers = no
 server multi channel support = no
 pid directory = /run/samba
[data]
 path = /srv/smb
 guest ok = yes
 guest only = yes
 force user = root
 read only = no
END
smbd -D -s /etc/samba/smb.conf
for module in aes_generic ctr cmac ccm ghash_generic gcm hmac ecb md5 sha256_generic sha512_generic cifs; do
  modprobe "$module" 2>/dev/null
done
mkdir -p "$A"

empty() {
  umount "$A" 2>/dev/null
  rm -rf "$S"/* "$S"/.sweeper-*
  mkdir -p "$S/cache/export" "$S/tmp"
  until_ok 'mount -t cifs //127.0.0.1/data "$A" -o "ip=127.0.0.1,unc=\\\\127.0.0.1\\data,guest,sec=none,vers=3.1.1,nosharesock,uid=0,gid=0,dir_mode=0777,file_mode=0777,mfsymlinks,cache=strict" 2>/tmp/errors'
}

# The client asks for its own lease back, and waits 35 s for it, unless that is given back before the unlink.
leases() {
  entries "$S/cache/export" 6 $((2 * DAY)) "$E"
  sweep --zones export --jobs 1
  equal "no removal waits for our own lease" "0 removed 6 skipped 0 failed 0" "$code $(totals)"
}

trees() {
  for tree in one two; do
    mkdir -p "$S/tmp/$tree/sub/deep"
    entries "$S/tmp/$tree" 3 $((40 * DAY)) f%d
    entries "$S/tmp/$tree/sub/deep" 3 $((40 * DAY)) g%d
    old "$S/tmp/$tree/sub/deep" "$S/tmp/$tree/sub" "$S/tmp/$tree"
  done
  sweep --zones tmp
  equal "a tree with subdirectories goes, and the private directory too" "0 removed 2 skipped 0 failed 0, nothing left" \
    "$code $(totals), $(ls -A "$S/tmp" | grep . || echo nothing left)"
}

# The listing is a position in a list, from which names are removed meanwhile.
shifting() {
  entries "$S/cache/export" 400 $((2 * DAY)) "$E"
  entries "$S/cache/export" 50 60 "job-%d-dataset-instance1736428000.5-coco-10.zip"
  sweep --zones export
  equal "nothing is left out of a listing that shifts, and nothing counted twice" "removed 400 skipped 0 failed 0, 50 left, seen 450" \
    "$(totals), $(count "$S/cache/export") left, seen $(tail -n 1 /tmp/report | sed 's/.*"totals":{"seen":\([0-9]*\).*/\1/')"
}

# The mode and owner of a directory are what the mount says, not what was asked for.
interrupted() {
  mkdir -p "$S/tmp/one"
  entries "$S/tmp/one" 60 $((40 * DAY)) f%d
  old "$S/tmp/one"
  timeout 120 sweeper run --data "$A" --zones tmp --max-rate 1/s --jobs 1 >/tmp/other 2>&1 &
  until_ok '[ "$(find "$S/tmp" -name "f*" | wc -l)" -lt 60 ]'
  kill -KILL $(pidof sweeper)
  wait
  until_ok 'sweep --zones tmp; [ "$(count "$S/tmp")" = 0 ]'
  equal "a removal that was interrupted is completed" "nothing left" "$(ls -A "$S/tmp" | grep . || echo nothing left)"
}

run_cases leases trees shifting interrupted
exit $failed

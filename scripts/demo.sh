#!/usr/bin/env bash
# Publishes a test picture with a clock and a beep, for those who have no encoder at hand.
#
#   scripts/demo.sh [rtmp://HOST/live/NAME]
set -euo pipefail
url=${1:-rtmp://127.0.0.1/live/demo}

if ! command -v ffmpeg >/dev/null; then
    echo "demo: ffmpeg is missing; install it with: apt-get install ffmpeg" >&2
    exit 1
fi
page=$(sed -E 's#^rtmps?://([^/:]+)(:[0-9]+)?/#http://\1:8080/#; s#\?.*##' <<<"$url")
echo "demo: publishing to $url; watch at $page; stop with Ctrl+C"

font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf
clock=""
# The clock is this machine's local time, so that the delay can be seen beside a watch.
[ ! -e "$font" ] || clock=",drawtext=fontfile=$font:text='%{localtime\:%T}':fontsize=h/8:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=16:x=(w-tw)/2:y=h*0.78"

exec ffmpeg -hide_banner -loglevel warning -stats \
    -re -f lavfi -i "testsrc2=size=1280x720:rate=30" \
    -re -f lavfi -i "sine=frequency=880:beep_factor=2:sample_rate=48000,volume=0.3" \
    -vf "format=yuv420p$clock" \
    -c:v libx264 -preset veryfast -tune zerolatency -profile:v high -b:v 2500k -maxrate 2500k -bufsize 1250k -g 60 -keyint_min 60 -sc_threshold 0 \
    -c:a aac -b:a 128k -ac 2 \
    -f flv "$url"

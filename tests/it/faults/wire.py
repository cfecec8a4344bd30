"""A line between two networks: packets take their time, and some are lost.

usage: wire.py DELAY_MS LOSS_PERCENT SEED LARGEST_THERE LARGEST_BACK

Makes two network devices, `near` and `far`, says "ready", and carries packets between them, DELAY_MS each
way, until its standard input ends. Packets of more bytes than LARGEST, to `far` and to `near`, are lost without a
word. Either device may be moved to another network namespace meanwhile.
"""

import fcntl
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN_NO_PI = 0x1001


def device(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_NO_PI))
    return fd


delay, loss, seed = float(sys.argv[1]) / 1000, float(sys.argv[2]) / 100, int(sys.argv[3])
dice = random.Random(seed)
near, far = device("near"), device("far")
largest = {near: int(sys.argv[4]), far: int(sys.argv[5])}  # of those that it sends
print("ready", flush=True)
# Each takes as long, so that the first in is the first out.
waiting = []
carried = lost = 0
while True:
    now = time.monotonic()
    while waiting and waiting[0][0] <= now:
        _, to, packet = waiting.pop(0)
        try:
            os.write(to, packet)
        except OSError:
            pass  # a device that is down or full loses it, as a line would
    pause = max(0.0, waiting[0][0] - now) if waiting else None
    readable, _, _ = select.select([near, far, sys.stdin], [], [], pause)
    if sys.stdin in readable:
        break
    for source in readable:
        try:
            packet = os.read(source, 65536)
        except OSError:
            continue  # not up yet
        carried += 1
        if dice.random() < loss or len(packet) > largest[source]:
            lost += 1
            continue
        waiting.append((time.monotonic() + delay, far if source == near else near, packet))
print(f"carried {carried}, lost {lost}", file=sys.stderr)

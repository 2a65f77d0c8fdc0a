#!/usr/bin/env python3
"""Waits until a process listens on TCP and prints the port: usage: port_of.py PID. Nothing but /proc, so no race for a free port."""
import os
import sys
import time

pid = sys.argv[1]


def listening():
    sockets = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in sockets:
                    return int(fields[1].rsplit(":", 1)[1], 16)
    return None


deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    try:
        port = listening()
    except FileNotFoundError:
        sys.exit(f"process {pid} has ended")
    if port:
        print(port)
        sys.exit(0)
    time.sleep(0.02)
sys.exit(f"process {pid} does not listen")

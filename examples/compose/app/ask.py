"""What a browser would ask: `ask.py health`, `ask.py add NUMBER`, `ask.py list`."""

import sys
from urllib.request import urlopen

path = sys.argv[1] if len(sys.argv) < 3 else f"{sys.argv[1]}?value={sys.argv[2]}"
print(urlopen(f"http://127.0.0.1:8000/{path}").read().decode())

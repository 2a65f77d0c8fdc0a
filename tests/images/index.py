#!/usr/bin/env python3
"""Adds an image index (one image, several platforms) to an OCI layout, which umoci cannot make.

usage: index.py LAYOUT NEW_TAG TAG...
"""
import hashlib
import json
import os
import sys

layout, new_tag, *tags = sys.argv[1:]
INDEX = "application/vnd.oci.image.index.v1+json"


def blob(digest):
    with open(os.path.join(layout, "blobs", *digest.split(":"))) as file:
        return json.load(file)


with open(os.path.join(layout, "index.json")) as file:
    index = json.load(file)
entries = {e.get("annotations", {}).get("org.opencontainers.image.ref.name"): e for e in index["manifests"]}
manifests = []
for tag in tags:
    entry = {key: entries[tag][key] for key in ("mediaType", "digest", "size")}
    config = blob(blob(entry["digest"])["config"]["digest"])
    manifests.append(entry | {"platform": {"architecture": config["architecture"], "os": config["os"]}})
# The wanted platform last, so that taking the first entry is a mistake that shows.
manifests.reverse()
body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
digest = hashlib.sha256(body).hexdigest()
with open(os.path.join(layout, "blobs", "sha256", digest), "wb") as file:
    file.write(body)
index["manifests"].append(
    {
        "mediaType": INDEX,
        "digest": "sha256:" + digest,
        "size": len(body),
        "annotations": {"org.opencontainers.image.ref.name": new_tag},
    }
)
with open(os.path.join(layout, "index.json"), "w") as file:
    json.dump(index, file)

#!/usr/bin/env python3
"""Adds an image of the same layers to an OCI layout, the first uncompressed and the others as gzip of many members.

usage: encodings.py LAYOUT TAG NEW_TAG
"""
import gzip
import hashlib
import json
import os
import sys

layout, tag, new_tag = sys.argv[1:]
blobs = os.path.join(layout, "blobs", "sha256")


def read(digest):
    with open(os.path.join(blobs, digest.removeprefix("sha256:")), "rb") as file:
        return file.read()


def write(body):
    digest = hashlib.sha256(body).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(body)
    return {"digest": "sha256:" + digest, "size": len(body)}


with open(os.path.join(layout, "index.json")) as file:
    index = json.load(file)
entry = next(e for e in index["manifests"] if e.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag)
manifest = json.loads(read(entry["digest"]))
for number, layer in enumerate(manifest["layers"]):
    tar = gzip.decompress(read(layer["digest"]))
    if number == 0:
        layer |= {"mediaType": "application/vnd.oci.image.layer.v1.tar"} | write(tar)
    else:
        members = [gzip.compress(tar[start : start + 1000], mtime=0) for start in range(0, len(tar), 1000)]
        layer |= write(b"".join(members))
new = {"mediaType": entry["mediaType"], "annotations": {"org.opencontainers.image.ref.name": new_tag}}
index["manifests"].append(new | write(json.dumps(manifest).encode()))
with open(os.path.join(layout, "index.json"), "w") as file:
    json.dump(index, file)

"""Writes an OCI image layout of finished layers: oci_layout.py FOLDER NAME LAYER.tar.gz... (beside each, LAYER.diff_id).

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import json
import pathlib
import sys

folder, name, *layers = sys.argv[1:]
blobs = pathlib.Path(folder, "blobs", "sha256")
blobs.mkdir(parents=True)


def descriptor(media_type, data):
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}


diff_ids, descriptors = [], []
for layer in sorted(map(pathlib.Path, layers)):
    diff_ids.append("sha256:" + layer.with_name(layer.name.replace(".tar.gz", ".diff_id")).read_text().strip())
    descriptors.append(descriptor("layer.v1.tar+gzip", layer.read_bytes()))
config = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Cmd": ["/bin/true"]},
    "rootfs": {"type": "layers", "diff_ids": diff_ids},
}
manifest = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": descriptor("config.v1+json", json.dumps(config).encode()),
    "layers": descriptors,
}
entry = descriptor("manifest.v1+json", json.dumps(manifest).encode())
entry["annotations"] = {"org.opencontainers.image.ref.name": name}
pathlib.Path(folder, "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
pathlib.Path(folder, "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))

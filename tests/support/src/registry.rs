//! A real docker-registry on a port of its own.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{die_with_parent, listening_port, wait_until};

/// What stands between a registry and those who ask it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Door {
    /// Only [`Door::USER`] with [`Door::PASSWORD`] gets in.
    pub password: bool,
    /// TLS, with a certificate of an authority that nobody knows: [`Registry::authority`].
    pub tls: bool,
}

impl Door {
    /// Who gets in.
    pub const USER: &str = "user";
    /// The password of that user.
    pub const PASSWORD: &str = "pass word";
    /// What `htpasswd -B` makes of both.
    const HTPASSWD: &str = "user:$2b$04$1lUabTAvg91M1.kU4M7pxuLZE.YjxbdrL5UcUEqw1tT59/6RLYyp6\n";
}

/// A docker-registry process that serves a store on 127.0.0.1. Ends when dropped, and with the thread that started it at the latest.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    store: PathBuf,
    folder: TempDir,
}

impl Registry {
    /// Serves `store` read-only.
    ///
    /// # Panics
    /// When docker-registry does not start.
    #[must_use]
    pub fn serve(store: &Path) -> Self {
        Self::serve_behind(store, Door::default())
    }

    /// The same behind a door.
    ///
    /// # Panics
    /// When docker-registry does not start.
    #[must_use]
    pub fn serve_behind(store: &Path, door: Door) -> Self {
        Self::start(store, door, true)
    }

    /// Serves a new, empty store at `store` that takes what is pushed.
    #[must_use]
    pub fn serve_empty(store: &Path) -> Self {
        fs::create_dir(store).unwrap();
        Self::start(store, Door::default(), false)
    }

    fn start(store: &Path, door: Door, read_only: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("msb-registry-").tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {store:?}}}\n  \
             maintenance: {{readonly: {{enabled: {read_only}}}}}\nhttp:\n  addr: '127.0.0.1:0'\n"
        );
        if door.tls {
            make_certificates(folder.path());
            let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
            text += &format!("  tls: {{certificate: {certificate:?}, key: {key:?}}}\n");
        }
        if door.password {
            let users = folder.path().join("users");
            fs::write(&users, Door::HTPASSWD).unwrap();
            text += &format!("auth: {{htpasswd: {{realm: test, path: {users:?}}}}}\n");
        }
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: the closure makes one async-signal-safe system call.
        unsafe { command.pre_exec(die_with_parent) };
        let child =
            command.spawn().unwrap_or_else(|error| panic!("docker-registry: {error}; run `make setup`"));
        let mut port = None;
        wait_until(Duration::from_secs(20), "docker-registry listens", || {
            port = listening_port(child.id());
            port.is_some_and(|port| TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        let address = format!("127.0.0.1:{}", port.unwrap());
        Self { child, address, store: store.to_path_buf(), folder }
    }

    /// Serves a private copy of `store`, made at `copy`.
    #[must_use]
    pub fn serve_copy(store: &Path, copy: &Path) -> Self {
        let status = Command::new("cp").arg("-a").arg(store).arg(copy).status().unwrap();
        assert!(status.success());
        Self::serve(copy)
    }

    /// Makes a tag of a private copy point to another image of its repository.
    pub fn retag(&self, repository: &str, tag: &str, digest: &str) {
        fs::write(self.link(repository, tag), digest).unwrap();
    }

    /// Serves a private copy of `store` with one byte of the largest layer of `repository:latest` changed.
    #[must_use]
    pub fn serve_corrupted(store: &Path, copy: &Path, repository: &str) -> Self {
        let registry = Self::serve_copy(store, copy);
        let blob = |digest: &str| {
            let hex = digest.trim_start_matches("sha256:");
            copy.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
        };
        let manifest = fs::read(blob(&registry.digest(repository, "latest"))).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let largest = layers.iter().max_by_key(|layer| layer["size"].as_u64()).unwrap();
        let largest = blob(largest["digest"].as_str().unwrap());
        let mut bytes = fs::read(&largest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        fs::write(&largest, bytes).unwrap();
        registry
    }

    /// The certificate of the authority behind its TLS, in PEM form.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The reference of an image here, such as `127.0.0.1:4711/busybox:latest`.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        let tag = if name.contains([':', '@']) { "" } else { ":latest" };
        format!("{}/{name}{tag}", self.address)
    }

    /// The digest that a tag points to, `sha256:…`.
    #[must_use]
    pub fn digest(&self, repository: &str, tag: &str) -> String {
        fs::read_to_string(self.link(repository, tag)).unwrap().trim().to_owned()
    }

    fn link(&self, repository: &str, tag: &str) -> PathBuf {
        let link = format!("docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link");
        self.store.join(link)
    }
}

/// An authority (`ca.pem`) and what it signed for 127.0.0.1 (`cert.pem`, `key.pem`).
fn make_certificates(folder: &Path) {
    fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let authority = ["req", "-x509", "-subj", "/CN=Test authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&authority[..], &key].concat());
    openssl(
        &[&["req", "-subj", "/CN=127.0.0.1", "-keyout", "key.pem", "-out", "req.pem"][..], &key[..5]]
            .concat(),
    );
    let sign = ["x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-out", "cert.pem", "-days", "2", "-extfile", "san"]].concat());
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Images;

    #[test]
    fn images_are_served_and_the_process_ends_with_its_handle() {
        let registry = Registry::serve(&Images::build().registry_store());
        let inspect = |reference: &str| {
            Command::new("skopeo")
                .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
                .arg(format!("docker://{reference}"))
                .output()
                .unwrap()
        };
        let output = inspect(&registry.image("python:3.11"));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), registry.digest("python", "3.11"));
        let image = registry.image("busybox");
        drop(registry);
        assert!(!inspect(&image).status.success());
    }

    #[test]
    fn a_corrupted_store_serves_a_layer_that_does_not_match() {
        let folder = tempfile::tempdir().unwrap();
        let store = Images::build().registry_store();
        let registry = Registry::serve_corrupted(&store, &folder.path().join("store"), "busybox");
        let target = format!("dir:{}", folder.path().join("copy").display());
        let source = format!("docker://{}", registry.image("busybox"));
        let output = Command::new("skopeo")
            .args(["copy", "--src-tls-verify=false", &source, &target])
            .output()
            .unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("sha256:"));
    }
}

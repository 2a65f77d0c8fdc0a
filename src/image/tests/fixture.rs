//! Images made by umoci from the system's static busybox, and a real registry to hold them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Runs a tool to its end; its output goes into the panic when it fails.
pub(super) fn run(command: &mut Command) -> String {
    let name = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "{name}: {error}; these tests need docker-registry, skopeo, umoci and busybox-static installed"
        )
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn umoci(arguments: &[&str]) {
    run(Command::new("umoci").args(arguments));
}

pub(super) fn skopeo(arguments: &[&str]) {
    run(Command::new("skopeo").arg("--insecure-policy").args(arguments));
}

/// An OCI layout with the image `app:1`: two layers, of which the second deletes a file of the first.
pub(super) fn layout() -> &'static Path {
    static LAYOUT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LAYOUT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("layout");
        make_layout(folder.path(), &layout);
        (folder, layout)
    });
    path
}

/// Bytes that do not compress, the same each time.
pub(super) fn noise() -> impl Iterator<Item = u8> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
}

fn make_layout(folder: &Path, layout: &Path) {
    let (image, bundle) = (format!("{}:1", layout.display()), folder.join("bundle"));
    let root = bundle.join("rootfs");
    umoci(&["init", "--layout", &layout.display().to_string()]);
    umoci(&["new", "--image", &image]);
    umoci(&["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
    for directory in ["bin", "etc", "data"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n").unwrap();
    fs::write(root.join("data/gone"), "gone").unwrap();
    // Enough incompressible data for a transfer of several chunks.
    fs::write(root.join("data/noise"), noise().take(3 << 20).collect::<Vec<u8>>()).unwrap();
    let repack = |image: &str| {
        umoci(&["repack", "--refresh-bundle", "--image", image, &bundle.display().to_string()]);
    };
    repack(&image);
    fs::remove_file(root.join("data/gone")).unwrap();
    fs::write(root.join("data/new"), "new").unwrap();
    repack(&image);
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.entrypoint",
        "/bin/busybox",
        "--config.cmd",
        "sh",
        "--config.env",
        "A=b=c",
        "--config.user",
        "app",
        "--config.workingdir",
        "/data",
        "--config.stopsignal",
        "SIGINT",
        "--config.label",
        "org.example=yes",
        "--config.exposedports",
        "80/tcp",
    ]);
}

/// Debian's docker-registry on a free port; gone on drop.
pub(super) struct Registry {
    child: Child,
    pub(super) port: u16,
    folder: tempfile::TempDir,
}

impl Registry {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The port is free when it is looked up and may be taken when it is used.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = folder.path().join("config.yml");
            let storage = folder.path().join("storage");
            fs::write(&config, format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
                storage.display()
            )).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("these tests need docker-registry installed");
            let deadline = Instant::now() + Duration::from_secs(20);
            while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, port, folder };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = (child.kill(), child.wait());
        }
        panic!("docker-registry does not start");
    }

    /// A registry that holds `test/app:1`.
    pub(super) fn with_app() -> Self {
        let registry = Self::start();
        registry.push(&format!("oci:{}:1", layout().display()), "test/app:1", &[]);
        registry
    }

    pub(super) fn push(&self, source: &str, name: &str, flags: &[&str]) {
        let target = format!("docker://{}", self.name(name));
        skopeo(&[&["copy", "-q", "--dest-tls-verify=false"], flags, &[source, &target]].concat());
    }

    pub(super) fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    pub(super) fn reference(&self, name: &str) -> crate::image::Reference {
        self.name(name).parse().unwrap()
    }

    pub(super) fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

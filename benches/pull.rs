//! What pulling an image costs, against the promises of docs/SPECIFICATION.md and, where it is given, a rival in the same run.
//!
//! Environment (`make bench` sets what it can):
//! `MSB_BENCH_REGISTRY` a docker-registry store that has the image `big` · `MSB_BENCH_RIVAL_PULL` a command line that pulls the image whose
//! name is put behind it with the rival, `HOME` of which is `{home}`, an empty folder each time.

#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

#[allow(dead_code, reason = "each benchmark needs some of it")]
mod measure;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use measure::{median, report, shell, time};
use tempfile::TempDir;

/// How often everything is measured when `MSB_BENCH_ROUNDS` does not say.
const ROUNDS: usize = 3;

fn main() {
    let Some(store) = std::env::var_os("MSB_BENCH_REGISTRY").filter(|store| !store.is_empty()) else {
        println!("pull: skipped, MSB_BENCH_REGISTRY is not set");
        return;
    };
    let bench = Bench::new(Path::new(&store));
    let mut figures = Figures::default();
    let rounds =
        std::env::var("MSB_BENCH_ROUNDS").map_or(ROUNDS, |count| count.parse().expect("a number of rounds"));
    for _ in 0..rounds {
        bench.round(&mut figures);
    }
    figures.print(&bench);
}

struct Bench {
    small: SmallFiles,
    registry: Registry,
    layers: Vec<PathBuf>,
    uncompressed: f64,
    rival: Option<String>,
}

#[derive(Default)]
struct Figures {
    floor: Vec<f64>,
    ours: Vec<Cost>,
    theirs: Vec<Cost>,
    cached: Vec<f64>,
    small: Vec<f64>,
    small_tar: Vec<f64>,
}

/// What a process took.
struct Cost {
    wall_ms: f64,
    peak_mib: f64,
    written_mib: f64,
}

impl Cost {
    fn told(self, whose: &str) -> Self {
        println!(
            "{whose}: {:.0} ms, {:.0} MiB of memory, {:.0} MiB written",
            self.wall_ms, self.peak_mib, self.written_mib
        );
        self
    }
}

impl Bench {
    fn new(store: &Path) -> Self {
        let layers = layers(store);
        let uncompressed = layers.iter().map(|layer| inflated(layer)).sum::<f64>();
        let compressed = layers.iter().map(|layer| fs::metadata(layer).expect("layer").len()).sum::<u64>();
        println!(
            "image: {} layers, {:.0} MiB compressed, {uncompressed:.0} MiB not",
            layers.len(),
            compressed as f64 / f64::from(1 << 20)
        );
        let rival = std::env::var("MSB_BENCH_RIVAL_PULL").ok().filter(|line| !line.is_empty());
        Self { small: SmallFiles::make(), registry: Registry::serve(store), layers, uncompressed, rival }
    }

    fn round(&self, figures: &mut Figures) {
        figures.floor.push(self.floor());
        println!("two gzip: {:.0} ms", figures.floor[figures.floor.len() - 1]);
        figures.small.push(self.small.load());
        figures.small_tar.push(self.small.untar());
        let home = tempfile::tempdir().expect("temporary folder");
        figures.ours.push(cost(&mut self.pull(&home)).told("msb"));
        figures.cached.extend((0..10).map(|_| time(&mut self.pull(&home))));
        drop(home);
        if let Some(rival) = &self.rival {
            let home = tempfile::tempdir().expect("temporary folder");
            let line = rival.replace("{home}", &home.path().display().to_string());
            let mut command = shell(&format!("{line} {}", self.image()));
            figures.theirs.push(cost(command.stdout(Stdio::null()).stderr(Stdio::null())).told("the rival"));
        }
    }

    /// The layers through two `gzip -dc` at a time: nothing that converts them can be faster with two processors.
    fn floor(&self) -> f64 {
        let mut command = Command::new("xargs");
        command.args(["-P2", "-n1", "-a"]);
        let list = tempfile::NamedTempFile::new().expect("temporary file");
        let names: Vec<String> = self.layers.iter().map(|layer| layer.display().to_string()).collect();
        fs::write(&list, names.join("\n")).expect("list of layers");
        time(command.arg(list.path()).args(["gzip", "-dc"]).stdout(Stdio::null()))
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{}/big", self.registry.port)
    }

    fn pull(&self, home: &TempDir) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msb"));
        command.args(["-q", "pull", &self.image()]).env("MSB_HOME", home.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// A layer of nothing but tiny files, as an archive for `docker load`.
struct SmallFiles {
    folder: TempDir,
}

impl SmallFiles {
    const COUNT: usize = 100_000;

    fn make() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut layer = tar::Builder::new(Vec::new());
        for number in 0..Self::COUNT {
            let mut header = tar::Header::new_ustar();
            header.set_size(100);
            header.set_mode(0o644);
            let name = format!("{}/{}/{number}", number % 100, number / 100 % 100);
            layer.append_data(&mut header, name, &[number as u8; 100][..]).expect("layer");
        }
        let layer = layer.into_inner().expect("layer");
        let digest = msb::image::Digest::sha256(&layer).to_string();
        let architecture = msb::image::Platform::host().architecture;
        let config = format!(
            r#"{{"os":"linux","architecture":"{architecture}","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let list = r#"[{"Config":"config.json","RepoTags":["small:1"],"Layers":["layer.tar"]}]"#;
        let archive = fs::File::create(folder.path().join("image.tar")).expect("archive");
        let mut archive = tar::Builder::new(archive);
        for (name, bytes) in
            [("manifest.json", list.as_bytes()), ("config.json", config.as_bytes()), ("layer.tar", &layer)]
        {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes).expect("archive");
        }
        archive.into_inner().expect("archive");
        fs::write(folder.path().join("layer.tar"), layer).expect("layer");
        Self { folder }
    }

    /// The whole of `msb load`.
    fn load(&self) -> f64 {
        let home = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(home.path().join("config")).expect("folder");
        fs::write(home.path().join("config/config.toml"), "[images]\nkeep-blobs = \"never\"\n")
            .expect("settings");
        let mut command = Command::new(env!("CARGO_BIN_EXE_msb"));
        command
            .args(["-q", "load", "-i"])
            .arg(self.folder.path().join("image.tar"))
            .env("MSB_HOME", home.path());
        time(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// `tar x` of the same layer beside it.
    fn untar(&self) -> f64 {
        let to = tempfile::tempdir().expect("temporary folder");
        time(Command::new("tar").arg("xf").arg(self.folder.path().join("layer.tar")).arg("-C").arg(to.path()))
    }
}

impl Figures {
    fn print(self, bench: &Bench) {
        let floor = median(self.floor);
        println!("{:<58} {floor:>9.0} ms", "two `gzip -dc` of the layers at a time (the floor)");
        let of = |costs: &[Cost], what: fn(&Cost) -> f64| median(costs.iter().map(what).collect());
        report("msb pull, wall / floor", of(&self.ours, |cost| cost.wall_ms) / floor, "x", 1.15);
        report("msb pull, peak memory", of(&self.ours, |cost| cost.peak_mib), "MiB", 150.0);
        let written = of(&self.ours, |cost| cost.written_mib);
        report("msb pull, written / uncompressed", written / bench.uncompressed, "x", 1.02);
        report("msb pull of what is here", median(self.cached), "ms", 10.0);
        let rate = |times: Vec<f64>| SmallFiles::COUNT as f64 / median(times) * 1e3;
        let (ours, tar) = (rate(self.small), rate(self.small_tar));
        println!("{:<58} {ours:>9.0} /s   bar    2000  `tar x` {tar:.0} /s", "msb load of tiny files");
        if !self.theirs.is_empty() {
            println!(
                "the rival: wall / floor {:.2}, peak memory {:.0} MiB, written / uncompressed {:.2}",
                of(&self.theirs, |cost| cost.wall_ms) / floor,
                of(&self.theirs, |cost| cost.peak_mib),
                of(&self.theirs, |cost| cost.written_mib) / bench.uncompressed
            );
        }
    }
}

/// Runs a command and asks what it alone took: `wait4` tells this child's memory from that of earlier ones.
fn cost(command: &mut Command) -> Cost {
    let start = std::time::Instant::now();
    #[expect(clippy::zombie_processes, reason = "`wait4` waits for it")]
    let child = command.spawn().expect("the program starts");
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let mut status = 0;
    let pid = i32::try_from(child.id()).expect("process id");
    // SAFETY: both pointers are to variables of the right types; the child is ours and waited for nowhere else.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    let wall_ms = measure::ms(start.elapsed());
    assert!(waited == pid && status == 0, "{command:?} failed");
    // SAFETY: `wait4` filled it.
    let usage = unsafe { usage.assume_init() };
    Cost { wall_ms, peak_mib: usage.ru_maxrss as f64 / 1024.0, written_mib: usage.ru_oublock as f64 / 2048.0 }
}

/// The blobs of the layers of `big:latest`.
fn layers(store: &Path) -> Vec<PathBuf> {
    let root = store.join("docker/registry/v2");
    let digests = fs::read_dir(root.join("repositories/big/_layers/sha256")).expect("image `big`");
    let blob = |digest: String| root.join("blobs/sha256").join(&digest[..2]).join(&digest).join("data");
    let blobs = digests.map(|entry| blob(entry.expect("layer").file_name().into_string().expect("digest")));
    // The configuration lies among the layers.
    blobs.filter(|blob| fs::metadata(blob).is_ok_and(|file| file.len() > 1 << 20)).collect()
}

/// MiB that a layer unpacks to.
fn inflated(layer: &Path) -> f64 {
    let mut child = Command::new("gzip").arg("-dc").arg(layer).stdout(Stdio::piped()).spawn().expect("gzip");
    let bytes = std::io::copy(&mut child.stdout.take().expect("output"), &mut std::io::sink()).expect("gzip");
    assert!(child.wait().expect("gzip").success());
    bytes as f64 / f64::from(1 << 20)
}

/// A docker-registry that ends with its handle.
struct Registry {
    child: Child,
    port: u16,
    _config: tempfile::NamedTempFile,
}

impl Registry {
    fn serve(store: &Path) -> Self {
        let config = tempfile::NamedTempFile::new().expect("temporary file");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage:\n  filesystem: {{rootdirectory: {store:?}}}\n  \
             maintenance: {{readonly: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n"
        );
        fs::write(&config, text).expect("configuration");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-registry; run `make setup`");
        let log = BufReader::new(child.stderr.take().expect("log"));
        let mut lines = log.lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        // Somebody must read the log, else the registry stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: port.expect("port of the registry"), _config: config }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

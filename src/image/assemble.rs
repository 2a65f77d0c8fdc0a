//! From layers in the store to an image in the store: merged metadata, published as one folder.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::merge;
use super::progress::{Event, Progress};
use super::reference::Reference;
use super::refs::Target;
use super::resolve::Resolved;
use super::staging::Waiting;
use super::store::{Image, Store, is_intact};

impl Store {
    /// Makes `reference` stand for `resolved`, whose layers are all in the store. `is_pulled` says that a registry has it
    /// by this name.
    pub(super) fn assemble(
        &self,
        reference: &Reference,
        resolved: &Resolved,
        is_pulled: bool,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let folder = self.image_folder(&resolved.digest);
        let waiting = Waiting {
            ready: &|| is_complete(&folder),
            started: &|| progress.event(Event::WaitingForOtherProcess { digest: &resolved.digest }),
            cancelled: &|| false,
        };
        let name = format!("image-{}", resolved.digest.hex());
        if let Some(claim) = self.staging.folder_for(&name, &waiting)? {
            progress.event(Event::Assembling { reference });
            self.fill(claim.path(), reference, resolved)?;
            if folder.exists() {
                // What is left of a damaged image; disks that are in use stay readable to who has them open.
                fs::remove_dir_all(&folder).map_err(Error::at("remove", &folder))?;
            }
            claim.publish(&folder)?;
        }
        let target = Target::now(resolved.digest.clone());
        let index =
            resolved.index.as_ref().map(|(index, text)| self.keep_blob(index, text).map(|()| index.clone()));
        let target = Target { index: index.transpose()?, ..target };
        let target = if is_pulled { target.from(reference) } else { target };
        let missing = || Error::io("open", &folder, std::io::ErrorKind::NotFound.into());
        let image = self.lease_image(reference, &target)?.ok_or_else(missing)?;
        // The name comes last: whoever finds it finds everything.
        self.set_ref(reference, &target)?;
        progress.event(Event::Done { reference, digest: &resolved.digest });
        Ok(image)
    }

    fn fill(&self, folder: &Path, reference: &Reference, resolved: &Resolved) -> Result<(), Error> {
        for (name, text) in
            [("manifest.json", &resolved.manifest_text), ("config.json", &resolved.config_text)]
        {
            let path = folder.join(name);
            create(&path)?.write_all(text).map_err(Error::at("write", &path))?;
        }
        let path = folder.join("meta.erofs");
        let mut meta = create(&path)?;
        let layers: Vec<PathBuf> =
            resolved.layers.iter().map(|layer| self.layer_path(&layer.diff_id)).collect();
        let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
        match merge::merge(&layers, &mut meta) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::storage_cause(&source, &path)
                .unwrap_or_else(|| Error::Merge { image: reference.short(), source: Box::new(source) })),
        }
    }
}

fn create(path: &Path) -> Result<fs::File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(Error::at("create", path))
}

fn is_complete(folder: &Path) -> bool {
    let is_filled = |name: &str| fs::metadata(folder.join(name)).is_ok_and(|file| file.len() > 0);
    is_filled("manifest.json") && is_filled("config.json") && is_intact(&folder.join("meta.erofs"))
}

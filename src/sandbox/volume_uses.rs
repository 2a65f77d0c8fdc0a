//! Which sandboxes are defined to use which named volumes.

use crate::manifest::{self, FILE_NAMES, Volume, VolumeSource};
use crate::paths::Paths;

use super::projects::named_sandboxes;
use super::{Error, Installed, Projects};

/// Named volumes with what needs them.
#[derive(Debug, Default)]
pub struct VolumeUses(Vec<(String, String)>);

impl VolumeUses {
    /// What is defined to use volume `name`, in words.
    #[must_use]
    pub fn of(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(volume, _)| volume == name).map(|(_, by)| by.clone()).collect()
    }

    fn add(&mut self, volumes: &[Volume], by: &str) {
        for volume in volumes {
            if let VolumeSource::Named(name) = &volume.source {
                self.0.push((name.clone(), by.to_owned()));
            }
        }
    }
}

/// What installed and named sandboxes and those of known projects need.
///
/// # Errors
/// What is installed, or the list of projects, cannot be read. A single sandbox or Sandboxfile that cannot be read needs nothing.
pub fn volume_uses(paths: &Paths) -> Result<VolumeUses, Error> {
    let mut uses = VolumeUses::default();
    let installed = Installed::new(paths);
    for name in installed.names()? {
        if let Ok(definition) = installed.get(&name) {
            uses.add(&definition.volumes, &format!("the installed sandbox `{name}`"));
        }
    }
    for record in named_sandboxes(paths)? {
        uses.add(&record.definition.volumes, &format!("the sandbox `{}`", record.name));
    }
    for project in Projects::new(paths).all()? {
        let mut files = FILE_NAMES.iter().map(|name| project.join(name));
        let Some(Ok(file)) = files.find(|path| path.exists()).map(|path| manifest::load(&path)) else {
            continue;
        };
        for (name, spec) in &file.sandboxes {
            uses.add(&spec.volumes, &format!("the sandbox `{name}` of {}", project.display()));
        }
    }
    Ok(uses)
}

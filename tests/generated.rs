//! Completions and manual page in the repository are what the command line says now.
//! `MSB_UPDATE=1 cargo test --test generated` writes them anew.

use std::fs;
use std::path::Path;

use clap_complete::Shell;

fn check(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("MSB_UPDATE").is_some() {
        fs::create_dir_all(file.parent().expect("the path has a folder")).expect("folder");
        fs::write(&file, wanted).expect("written");
    }
    let current = fs::read_to_string(&file).unwrap_or_default();
    assert!(current == wanted, "{path} is stale: run `make generate`");
}

#[test]
fn completions_are_current() {
    check("completions/msb.bash", &msb::cli::completion(Shell::Bash));
    check("completions/_msb", &msb::cli::completion(Shell::Zsh));
    check("completions/msb.fish", &msb::cli::completion(Shell::Fish));
}

#[test]
fn the_manual_page_is_current() {
    check("docs/msb.1", &msb::cli::man_page().expect("rendered"));
}

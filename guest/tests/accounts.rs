//! Users and groups of an image.
#![allow(clippy::unwrap_used)]

use msb_guest::session::{Account, AccountError, Database};
use proptest::prelude::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\
    broken:x:notanumber:1::/:\n\
    app:x:1000:1001:App:/home/app:/bin/false\n\
    1000:x:2000:2000::/home/thousand:/bin/sh\n\
    nohome:x:3000:3000::\n\
    daemon:x:4294967295:1::/:/bin/sh\n";
const GROUP: &str =
    "root:x:0:\nwheel:x:10:root,app\napp:x:1001:\naudio:x:29:other,app\naudio2:x:29:app\nstaff:x:50:";

fn resolve(spec: Option<&str>) -> Result<Account, AccountError> {
    Database::from_contents(PASSWD.as_bytes(), GROUP.as_bytes()).resolve(spec)
}

/// An account whose supplementary groups are the primary one and `more`.
fn account(uid: u32, gid: u32, more: &[u32], home: &str) -> Account {
    Account { uid, gid, groups: [&[gid], more].concat(), home: home.into() }
}

#[test]
fn users_are_found_as_docker_finds_them() {
    let cases = [
        (None, account(0, 0, &[10], "/root")),
        (Some("root"), account(0, 0, &[10], "/root")),
        (Some("app"), account(1000, 1001, &[10, 29], "/home/app")),
        (Some("app:staff"), account(1000, 50, &[], "/home/app")),
        (Some("app:77"), account(1000, 77, &[], "/home/app")),
        (Some("app:"), account(1000, 1001, &[10, 29], "/home/app")),
        (Some("1000"), account(2000, 2000, &[], "/home/thousand")),
        (Some("3000"), account(3000, 3000, &[], "/")),
        (Some("4242"), account(4242, 0, &[], "/")),
        (Some("4242:4343"), account(4242, 4343, &[], "/")),
        (Some(""), account(0, 0, &[10], "/root")),
        (Some(":staff"), account(0, 50, &[], "/root")),
    ];
    for (spec, expected) in cases {
        assert_eq!(resolve(spec), Ok(expected), "{spec:?}");
    }
}

#[test]
fn unknown_names_are_errors() {
    for name in ["ghost", "broken", "-1", "4294967295", "4294967296", "daemon"] {
        assert_eq!(resolve(Some(name)), Err(AccountError::UnknownUser(name.into())));
    }
    assert_eq!(resolve(Some("app:ghosts")), Err(AccountError::UnknownGroup("ghosts".into())));
    assert_eq!(resolve(Some("app:-1")), Err(AccountError::UnknownGroup("-1".into())));
}

#[test]
fn an_image_without_the_files_still_has_numbers() {
    let empty = Database::from_contents(b"", b"");
    assert_eq!(empty.resolve(None), Ok(account(0, 0, &[], "/")));
    assert_eq!(empty.resolve(Some("5:6")), Ok(account(5, 6, &[], "/")));
    assert!(empty.resolve(Some("root")).is_err());
}

proptest! {
    #[test]
    fn any_files_are_harmless(passwd in any::<Vec<u8>>(), group in any::<Vec<u8>>(), spec in any::<String>()) {
        let _ = Database::from_contents(&passwd, &group).resolve(Some(&spec));
    }

    #[test]
    fn any_lines_are_harmless(lines in "([a-z:0-9,]{0,20}\n){0,20}", spec in "[a-z0-9:]{0,6}") {
        let found = Database::from_contents(lines.as_bytes(), lines.as_bytes()).resolve(Some(&spec));
        prop_assert!(found.is_err() || found.is_ok_and(|a| a.groups.len() <= 1024));
    }
}

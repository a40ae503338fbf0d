//! The structure of `src/`, held to what docs/ARCHITECTURE.md says: which way dependencies point, what the cores may not name, how long a
//! file may get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Module → what it may use of this crate. `app`, `cli` and `config` wire everything and are not listed.
const MAY_USE: [(&str, &[&str]); 5] = [
    ("media", &["media"]),
    ("packager", &["packager", "media"]),
    ("ingest", &["ingest", "packager", "media"]),
    ("edge", &["edge", "packager", "media"]),
    ("control", &["control", "packager", "media"]),
];

/// The shells: everything else is a core, takes bytes and a `now`, and does no I/O.
const SHELLS: [&str; 8] = [
    "media/wall_clock.rs",
    "packager/live.rs",
    "packager/live/",
    "packager/sequence.rs",
    "ingest/rtmp/server",
    "ingest/metrics.rs",
    "control/",
    "edge/",
];
/// Within `edge/`, these are cores all the same.
const EDGE_CORES: [&str; 6] =
    ["edge/route.rs", "edge/blocking.rs", "edge/body.rs", "edge/negotiate.rs", "edge/config.rs", "edge/traceparent.rs"];

/// What a core may not name, and why.
const FORBIDDEN_IN_CORES: [(&str, &str); 7] = [
    ("tokio::", "cores do not know the runtime"),
    ("std::fs", "cores do not touch the disk"),
    ("std::net::Tcp", "cores do not open sockets"),
    ("Instant::now", "time is passed in"),
    ("SystemTime", "time is passed in"),
    ("wall_clock::", "time is passed in"),
    ("std::thread", "cores do not start threads"),
];

/// Code lines before the tests of a file.
const LONGEST_FILE: usize = 600;

fn sources() -> BTreeMap<String, String> {
    fn collect(folder: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("src is readable") {
            let path: PathBuf = entry.expect("src is readable").path();
            if path.is_dir() {
                collect(&path, root, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below src").to_string_lossy().into_owned();
                files.insert(name, std::fs::read_to_string(&path).expect("a source file is UTF-8"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files);
    assert!(files.len() > 30, "src was found");
    files
}

/// The part of a file that is not tests, without comments.
fn code(text: &str) -> Vec<&str> {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]\nmod tests") && *line != "mod tests {");
    code.filter(|line| !line.trim_start().starts_with("//")).collect()
}

fn is_test_file(name: &str) -> bool {
    name.contains("test") || name.contains("simulation")
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let Some((module, allowed)) = MAY_USE.iter().find(|(module, _)| name.starts_with(&format!("{module}/"))) else {
            continue;
        };
        for line in code(&text) {
            for (at, _) in line.match_indices("crate::") {
                let used: String = line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !used.is_empty() && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("src/{name}: {module} must not use {used}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cores_do_no_io_and_read_no_clock() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let in_module = MAY_USE.iter().any(|(module, _)| name.starts_with(&format!("{module}/")));
        let shell = SHELLS.iter().any(|shell| name.starts_with(shell)) && !EDGE_CORES.contains(&name.as_str());
        if !in_module || shell || is_test_file(&name) {
            continue;
        }
        for line in code(&text) {
            for (word, why) in FORBIDDEN_IN_CORES {
                if line.contains(word) {
                    wrong.push(format!("src/{name}: {why}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_fit_in_a_head() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|(name, _)| !is_test_file(name))
        .map(|(name, text)| (name, code(text).len()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(name, lines)| format!("src/{name} has {lines} lines of code"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_module_opens_with_what_it_is() {
    let silent: Vec<String> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}

#[test]
fn no_queue_is_unbounded_and_no_code_is_unfinished() {
    let banned = ["unbounded_channel", "unbounded()", "todo!(", "unimplemented!("];
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|(name, text)| code(text).into_iter().map(move |line| (name.clone(), line.to_owned())))
        .filter(|(_, line)| banned.iter().any(|word| line.contains(word)))
        .map(|(name, line)| format!("src/{name}: {}", line.trim()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_map_in_the_documents_names_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in ["README.md", "docs/ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(root.join(document)).expect("the document exists");
        for path in text.split('`').filter(|word| word.starts_with("src/") && !word.contains(['*', '{', ' '])) {
            assert!(root.join(path).exists(), "{document} names {path}, which does not exist");
        }
    }
}

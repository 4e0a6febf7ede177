//! The house rules of `docs/style.md` that a program can check. Reads the source as text; knows nothing of what the
//! code does.
//!
//! Order: the tables that a new module must be entered in, the tests, the small reader of source text below them.
//! The tables name every module that the plan knows, whether it is there yet or not. Only `crate::` paths are
//! followed; test code may look where it likes.

#![expect(clippy::unwrap_used, reason = "a test fails by panic, its helpers too")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests, and with them.
const LINES_MAX: usize = 600;
const LINES_WITH_TESTS_MAX: usize = 800;

/// One crate: where it is, its layers from the bottom, and which layer a name belongs to that its root re-exports.
struct Crate {
    source: &'static str,
    /// A module may use those of its own layer and of the layers before it. The crate root may use all.
    layers: &'static [&'static [&'static str]],
    reexports: &'static [(&'static str, &'static str)],
}

const CRATES: &[Crate] = &[
    Crate {
        source: "storage/src",
        layers: &[
            &["model", "error", "fs", "clock"],
            &["codec", "options"],
            &["wal", "memtable", "rows", "series", "segment", "cells"],
            &["version", "manifest", "rolled"],
            &["scan", "view"],
            &["flush", "compact", "rollup", "retention", "recovery", "snapshot", "check"],
            &["engine"],
        ],
        reexports: &[("Error", "error"), ("ErrorKind", "error"), ("Result", "error"), ("Engine", "engine")],
    },
    Crate {
        source: "query/src",
        layers: &[&["budget", "error"], &["promql", "select"]],
        reexports: &[
            ("Error", "error"),
            ("ErrorKind", "error"),
            ("Result", "error"),
            ("Budget", "budget"),
            ("Limits", "budget"),
        ],
    },
    Crate {
        source: "src",
        layers: &[
            &["error", "limits", "point", "config"],
            &["ingest", "telemetry", "services"],
            &["database", "databases"],
            &["alert"],
            &["http"],
            &["cli", "demo"],
            &["main"],
        ],
        reexports: &[
            ("Error", "error"),
            ("ErrorKind", "error"),
            ("Result", "error"),
            ("Limits", "limits"),
            ("Config", "config"),
            ("Point", "point"),
            ("Database", "database"),
            ("Databases", "databases"),
        ],
    },
];

/// Text that only the named files may hold: a prefix of their paths below the workspace.
struct Reserved {
    /// Where the rule holds.
    scope: &'static str,
    texts: &'static [&'static str],
    allowed: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        scope: "storage/src",
        texts: &["std::fs"],
        allowed: &["storage/src/fs/os.rs"],
        why: "storage reaches files through the Fs trait",
    },
    Reserved {
        scope: "query/src",
        texts: &["std::fs", "std::net", "tokio::", "axum::", "hyper::"],
        allowed: &[],
        why: "query knows nothing of files and networks",
    },
    Reserved {
        scope: "storage/src",
        texts: &["tokio::", "axum::", "hyper::", "std::net"],
        allowed: &[],
        why: "the engine is synchronous and knows no network",
    },
    Reserved {
        scope: "src",
        texts: &["tokio::", "axum::", "hyper::", "hyper_util::"],
        allowed: &["src/http/", "src/http.rs", "src/cli/", "src/cli.rs", "src/services", "src/main.rs"],
        why: "only http, cli, services and main know the runtime",
    },
];

/// Files that a rule does not hold for: path, rule, reason. This list may only shrink.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[test]
fn layers_lower_never_uses_higher() {
    let mut faults = Faults::default();
    for crate_ in CRATES {
        for file in sources(crate_.source) {
            let module = module_of(crate_, &file.path);
            let Some(layer) = layer_of(crate_, &module) else {
                let what =
                    format!("module `{module}` is in no layer: enter it in the tables of tests/tidy.rs");
                faults.add("layers", &file.path, 1, &what);
                continue;
            };
            for (line, name) in crate_names(file.code()) {
                let reexport = crate_.reexports.iter().find(|(known, _)| *known == name);
                let used = reexport.map_or(&*name, |(_, module)| module);
                match layer_of(crate_, used) {
                    Some(used_layer) if used_layer <= layer => {}
                    Some(_) => {
                        faults.add(
                            "layers",
                            &file.path,
                            line,
                            &format!("`{module}` uses the higher `{used}`"),
                        );
                    }
                    None => {
                        let what = format!("`crate::{name}` is in no layer: enter it in tests/tidy.rs");
                        faults.add("layers", &file.path, line, &what);
                    }
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn reserved_names_stay_in_their_files() {
    let mut faults = Faults::default();
    for rule in RESERVED {
        for file in sources(rule.scope) {
            if rule.allowed.iter().any(|allowed| file.path.starts_with(allowed)) {
                continue;
            }
            for (line, text) in code_lines(file.code()) {
                if let Some(found) = rule.texts.iter().find(|found| names(text, found)) {
                    faults.add("reserved", &file.path, line, &format!("names `{found}`: {}", rule.why));
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn files_keep_to_their_caps() {
    let mut faults = Faults::default();
    for file in all_files() {
        let (code, all) = (file.code().lines().count(), file.text.lines().count());
        if LINES_MAX < code && !file.is_test() {
            faults.add("caps", &file.path, code, &format!("{code} lines without tests, cap {LINES_MAX}"));
        }
        if LINES_WITH_TESTS_MAX < all {
            faults.add("caps", &file.path, all, &format!("{all} lines, cap {LINES_WITH_TESTS_MAX}"));
        }
    }
    faults.assert_none();
}

#[test]
fn files_open_with_module_doc() {
    let mut faults = Faults::default();
    for file in all_files() {
        if !file.text.starts_with("//! ") {
            faults.add("doc", &file.path, 1, "does not open with `//!`");
        }
    }
    faults.assert_none();
}

#[test]
fn nothing_is_left_for_later() {
    // Put together, so that this file does not find itself.
    let macros = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let allows = [concat!("#[", "allow("), concat!("#![", "allow(")];
    let gaps = std::fs::read_to_string(root().join("docs/gaps.md")).unwrap_or_default();
    let mut faults = Faults::default();
    for file in all_files() {
        for (index, text) in file.text.lines().enumerate() {
            let line = index + 1;
            if let Some(found) = macros.iter().find(|found| text.contains(**found)) {
                faults.add("later", &file.path, line, &format!("`{found}`"));
            }
            if let Some(found) = allows.iter().find(|found| text.contains(**found)) {
                faults.add("allow", &file.path, line, &format!("`{found}..)]`: use expect with a reason"));
            }
            if let Some(note) = notes.iter().find(|note| names(text, note)) {
                // `NOTE(gap-name)`, and `gap-name` stands in docs/gaps.md.
                let name = text.split_once(&format!("{note}(")).and_then(|(_, tail)| tail.split_once(')'));
                if !name.is_some_and(|(name, _)| !name.is_empty() && gaps.contains(name)) {
                    faults.add("later", &file.path, line, &format!("{note} without a line in docs/gaps.md"));
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn exceptions_still_needed() {
    for (path, rule, reason) in EXCEPTIONS {
        assert!(
            root().join(path).is_file(),
            "{path}: excepted from `{rule}` but not there any more ({reason})"
        );
    }
}

/// What the rules found, each with its place.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn add(&mut self, rule: &str, path: &str, line: usize, what: &str) {
        if !EXCEPTIONS.iter().any(|(file, excepted, _)| *file == path && *excepted == rule) {
            writeln!(self.0, "{path}:{line}: {what}").unwrap();
        }
    }

    fn assert_none(&self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// A source file, its path relative to the workspace with `/` between the parts.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The text before the tests at the end of the file.
    fn code(&self) -> &str {
        if self.is_test() {
            return "";
        }
        let mut at = 0;
        let mut attribute_at = None;
        for line in self.text.split_inclusive('\n') {
            if line.starts_with("#[cfg(test)]") {
                attribute_at = Some(at);
            } else if line.starts_with("mod ") && line.trim_end().ends_with('{') && attribute_at.is_some() {
                break;
            } else if !line.starts_with("#[") {
                attribute_at = None;
            }
            at += line.len();
        }
        if at < self.text.len() { &self.text[..attribute_at.unwrap_or(at)] } else { &self.text }
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs" || self.path.contains("/tests/") || self.path.starts_with("tests/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn all_files() -> Vec<File> {
    let rooms = ["src", "storage/src", "storage/tests", "query/src", "query/tests", "tests", "benches"];
    let fuzz = ["fuzz/fuzz_targets"];
    rooms.into_iter().chain(fuzz).flat_map(sources).collect()
}

/// All Rust files below a directory, in order; none when it is not there.
fn sources(directory: &str) -> Vec<File> {
    let mut files = Vec::new();
    collect(&root().join(directory), &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(root()).unwrap();
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        File { path: parts.join("/"), text }
    };
    files.into_iter().map(read).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The first part of the path below the source directory: a room, or a file without its ending.
fn module_of(crate_: &Crate, path: &str) -> String {
    let inside = path.strip_prefix(crate_.source).unwrap_or(path).trim_start_matches('/');
    let first = inside.split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

/// The layer of a module, from 0; the crate root is above all. `None` when the tables do not know it.
fn layer_of(crate_: &Crate, module: &str) -> Option<usize> {
    if module == "lib" {
        return Some(usize::MAX);
    }
    crate_.layers.iter().position(|layer| layer.contains(&module))
}

/// Lines with their numbers, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| {
        let code = line.split_once("//").map_or(line, |(code, _)| code);
        (index + 1, code)
    })
}

/// Whether `wanted` stands in `text` and is not the end of a longer name.
fn names(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| !ends_in_name(&text[..at]))
}

fn ends_in_name(text: &str) -> bool {
    text.ends_with(|last: char| last.is_alphanumeric() || last == '_' || last == '$')
}

/// First names after `crate::`, groups in braces taken apart, with their lines.
fn crate_names(text: &str) -> Vec<(usize, String)> {
    const ROOT: &str = "crate::";
    let code: String = code_lines(text).flat_map(|(_, line)| [line, "\n"]).collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices(ROOT) {
        if ends_in_name(&code[..at]) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let tail = &code[at + ROOT.len()..];
        let parts = if let Some(group) = tail.strip_prefix('{') { split_group(group) } else { vec![tail] };
        for part in parts {
            let name: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                found.push((line, name));
            }
        }
    }
    found
}

/// The members of a group in braces whose opening brace is cut off.
fn split_group(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, char) in text.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&text[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn crate_names_groups_are_taken_apart() {
    let text =
        "use crate::{a::{b, c}, D};\n// crate::comment\nlet x = crate::e::f(); use icecrate::g; $crate::h!()";
    let names: Vec<_> = crate_names(text).into_iter().map(|(line, name)| format!("{line}{name}")).collect();
    assert_eq!(names, ["1a", "1D", "3e"]);
}

#[test]
fn code_ends_where_inline_tests_begin() {
    let file = |text: &str| File { path: "src/x.rs".into(), text: text.into() };
    let inline =
        file("//! X.\n#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n");
    assert_eq!(inline.code().lines().count(), 4);
    let none = file("//! X.\nmod inner {\n}\n");
    assert_eq!(none.code().lines().count(), 3);
}

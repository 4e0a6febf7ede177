//! The house rules of `docs/style.md` that a program can check. Reads the source as text; knows nothing of what the
//! code does.
//!
//! Order: the tables that a new module must be entered in, the rules and their tests, the small reader of source
//! text below them. The tables name every module that the plan knows, whether it is there yet or not. `crate::`
//! paths are followed, and `super::` paths that leave a top-level module; test code may look where it likes.

#![expect(clippy::unwrap_used, reason = "a test fails by panic, its helpers too")]
#![expect(clippy::print_stderr, reason = "a rule that cannot be checked says so")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests, and with them.
const LINES_MAX: usize = 600;
const LINES_WITH_TESTS_MAX: usize = 800;
/// Lines of a function. Clippy counts without comments; this counts what a reader scrolls.
const FUNCTION_LINES_MAX: usize = 80;

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
            &["model", "error", "fs", "clock", "sync", "testing", "pipeline"],
            &["codec", "options", "cell_set", "rules"],
            &["wal", "memtable", "rows", "series", "segment", "cells", "memory"],
            &["version", "manifest", "rolled", "tombstone", "pace", "applied"],
            &["scan", "view", "draft"],
            &[
                "flush",
                "compact",
                "rollup",
                "delete",
                "retention",
                "expiry",
                "recovery",
                "snapshot",
                "check",
                "inspect",
                "quarantine",
                "rebuild",
            ],
            &["engine"],
        ],
        reexports: &[("Error", "error"), ("ErrorKind", "error"), ("Result", "error"), ("Engine", "engine")],
    },
    Crate {
        source: "query/src",
        layers: &[&["budget", "error", "memory", "testing"], &["keys"], &["promql", "select"]],
        reexports: &[
            ("Error", "error"),
            ("ErrorKind", "error"),
            ("Result", "error"),
            ("Budget", "budget"),
            ("Limits", "budget"),
            ("MemoryPool", "memory"),
        ],
    },
    Crate {
        source: "src",
        layers: &[
            &["error", "limits", "point", "config"],
            &["ingest", "services"],
            &["duplicates", "exemplars", "metadata", "results"],
            &["telemetry"],
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
        allowed: &["src/http/", "src/cli/", "src/services", "src/main.rs"],
        why: "only http, cli, services and main know the runtime",
    },
    Reserved {
        scope: "src",
        texts: &["std::fs", "fs::File", "OpenOptions"],
        allowed: &["src/cli/"],
        why: "only storage's fs/os.rs and the command line touch files",
    },
    Reserved {
        scope: "src",
        texts: &["SystemTime", "std::time::Instant", "Instant::now"],
        allowed: &["src/cli/import.rs"],
        why: "time is read through Clock; import shows its progress",
    },
    Reserved {
        scope: "storage/src",
        texts: &["SystemTime", "std::time::Instant", "Instant::now"],
        allowed: &["storage/src/clock.rs"],
        why: "only clock.rs reads time",
    },
    Reserved {
        scope: "query/src",
        texts: &["SystemTime", "std::time::Instant", "Instant::now"],
        allowed: &[],
        why: "a budget is told the time",
    },
    Reserved {
        scope: "src",
        texts: &["println!", "eprintln!", "print!", "eprint!", "dbg!", "stdout()", "stderr()"],
        allowed: &["src/cli/", "src/main.rs"],
        why: "only main and cli print",
    },
    Reserved {
        scope: "storage/src",
        texts: &["println!", "eprintln!", "print!", "eprint!", "dbg!", "stdout()", "stderr()"],
        allowed: &[],
        why: "only main and cli print",
    },
    Reserved {
        scope: "query/src",
        texts: &["println!", "eprintln!", "print!", "eprint!", "dbg!", "stdout()", "stderr()"],
        allowed: &[],
        why: "only main and cli print",
    },
    Reserved {
        scope: "src",
        texts: &["StatusCode"],
        allowed: &["src/http/"],
        why: "only http knows status codes",
    },
    Reserved {
        scope: "src",
        texts: &["thread::spawn", "thread::Builder", "thread::scope"],
        allowed: &["src/services.rs", "src/demo.rs"],
        why: "threads are started by services",
    },
    Reserved {
        scope: "storage/src",
        texts: &["thread::spawn", "thread::Builder", "thread::scope"],
        allowed: &["storage/src/pipeline.rs"],
        why: "threads are started by services, and by pipeline for the length of a job or a read",
    },
    Reserved {
        scope: "query/src",
        texts: &["thread::spawn", "thread::Builder", "thread::scope"],
        allowed: &[],
        why: "threads are started by services",
    },
];

/// Documents that may be named before they are there. This list may only shrink.
const PLANNED: [&str; 3] = ["docs/gaps.md", "docs/benchmarks.md", "docs/decisions/dependencies.md"];

/// A rule and its name.
type Rule = (&'static str, fn(&mut Faults));

/// All rules; each has its test below.
const RULES: [Rule; 11] = [
    ("layers", layers),
    ("reserved", reserved),
    ("caps", caps),
    ("functions", functions),
    ("doc", docs_at_the_top),
    ("later", later),
    ("unwrap", unwraps),
    ("limits", limits),
    ("dependencies", dependencies),
    ("links", links),
    ("paths", machine_paths),
];

/// Files that a rule does not hold for: path, rule, reason. This list may only shrink; lower the number with it.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/ingest/records.rs", "reserved", "its test helper says on stderr that shared data is not there"),
    ("tests/tidy.rs", "paths", "names the forms of machine paths that it looks for"),
];
const EXCEPTIONS_MAX: usize = 2;

#[test]
fn layers_lower_never_uses_higher() {
    check("layers");
}

#[test]
fn reserved_names_stay_in_their_files() {
    check("reserved");
}

#[test]
fn files_keep_to_their_caps() {
    check("caps");
}

#[test]
fn functions_keep_to_their_cap() {
    check("functions");
}

#[test]
fn files_open_with_module_doc() {
    check("doc");
}

#[test]
fn nothing_is_left_for_later() {
    check("later");
}

#[test]
fn product_code_never_unwraps() {
    check("unwrap");
}

#[test]
fn every_limit_is_documented() {
    check("limits");
}

#[test]
fn every_dependency_is_justified() {
    check("dependencies");
}

#[test]
fn links_between_documents_resolve() {
    check("links");
}

#[test]
fn no_file_names_a_machine() {
    check("paths");
}

#[test]
fn exceptions_are_few_and_still_needed() {
    assert!(EXCEPTIONS.len() <= EXCEPTIONS_MAX, "the list of exceptions may only shrink");
    for (path, rule, reason) in EXCEPTIONS {
        let faults = run(rule);
        assert!(faults.0.iter().any(|fault| fault.path == *path), "{path}: `{rule}` holds again ({reason})");
    }
}

fn run(rule: &str) -> Faults {
    let mut faults = Faults::default();
    let (_, find) = RULES.iter().find(|(name, _)| *name == rule).unwrap();
    find(&mut faults);
    faults
}

/// Fails with everything that a rule finds outside of its exceptions.
fn check(rule: &str) {
    let mut text = String::new();
    for Fault { path, line, what } in &run(rule).0 {
        if !EXCEPTIONS.iter().any(|(file, excepted, _)| file == path && *excepted == rule) {
            write!(text, "\n{path}:{line}: {what}").unwrap();
        }
    }
    assert!(text.is_empty(), "{text}");
}

fn layers(faults: &mut Faults) {
    for crate_ in CRATES {
        for file in sources(crate_.source) {
            let module = module_of(crate_, &file.path);
            let Some(layer) = layer_of(crate_, &module) else {
                faults.add(&file.path, 1, &format!("module `{module}` is in no layer of tests/tidy.rs"));
                continue;
            };
            for (line, name) in crate_names(file.code(), depth_of(crate_, &file.path)) {
                let reexport = crate_.reexports.iter().find(|(known, _)| *known == name);
                let used = reexport.map_or(&*name, |(_, module)| module);
                match layer_of(crate_, used) {
                    Some(used_layer) if used_layer <= layer => {}
                    Some(_) => faults.add(&file.path, line, &format!("`{module}` uses the higher `{used}`")),
                    None => {
                        faults.add(
                            &file.path,
                            line,
                            &format!("`crate::{name}` is in no layer of tests/tidy.rs"),
                        );
                    }
                }
            }
        }
    }
}

fn reserved(faults: &mut Faults) {
    for rule in RESERVED {
        for file in sources(rule.scope) {
            if rule.allowed.iter().any(|allowed| file.path.starts_with(allowed)) {
                continue;
            }
            for (line, text) in code_lines(file.code()) {
                if let Some(found) = rule.texts.iter().find(|found| names(text, found)) {
                    faults.add(&file.path, line, &format!("names `{found}`: {}", rule.why));
                }
            }
        }
    }
}

fn caps(faults: &mut Faults) {
    for file in all_files() {
        let (code, all) = (file.code().lines().count(), file.text.lines().count());
        if LINES_MAX < code && !file.is_test() {
            faults.add(&file.path, code, &format!("{code} lines without tests, cap {LINES_MAX}"));
        }
        if LINES_WITH_TESTS_MAX < all {
            faults.add(&file.path, all, &format!("{all} lines, cap {LINES_WITH_TESTS_MAX}"));
        }
    }
}

/// Relies on rustfmt: a function ends with the first brace that stands as far left as it begins.
fn functions(faults: &mut Faults) {
    for file in all_files() {
        let mut open: Option<(usize, usize)> = None;
        for (index, text) in file.text.lines().enumerate() {
            let indent = text.len() - text.trim_start().len();
            match open {
                None if is_function(text.trim_start()) && !text.ends_with('}') && !text.ends_with(';') => {
                    open = Some((index, indent));
                }
                Some((start, open_indent))
                    if indent == open_indent && !text.trim_start().starts_with(")") =>
                {
                    let lines = index + 1 - start;
                    if FUNCTION_LINES_MAX < lines && text.trim() == "}" {
                        faults.add(
                            &file.path,
                            start + 1,
                            &format!("{lines} lines, cap {FUNCTION_LINES_MAX}"),
                        );
                    }
                    if !text.trim().is_empty() && text.trim() != "{" {
                        open = None;
                    }
                }
                _ => {}
            }
        }
    }
}

fn is_function(text: &str) -> bool {
    let rest =
        text.strip_prefix("pub").map_or(text, |rest| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
    ["fn ", "const fn ", "async fn "].iter().any(|start| rest.starts_with(start))
}

fn docs_at_the_top(faults: &mut Faults) {
    for file in all_files() {
        if !file.text.starts_with("//! ") {
            faults.add(&file.path, 1, "does not open with `//!`");
        }
    }
}

fn later(faults: &mut Faults) {
    // Put together, so that this file does not find itself.
    let macros = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let allow = concat!("al", "low(");
    let gaps = std::fs::read_to_string(root().join("docs/gaps.md")).unwrap_or_default();
    for file in all_files() {
        for (index, text) in file.text.lines().enumerate() {
            let line = index + 1;
            if let Some(found) = macros.iter().find(|found| text.contains(**found)) {
                faults.add(&file.path, line, &format!("`{found}`"));
            }
            if text.trim_start().starts_with('#') && names(text, allow) {
                faults.add(&file.path, line, &format!("`{allow}..)`: use expect with a reason"));
            }
            if let Some(note) = notes.iter().find(|note| names(text, note)) {
                // `NOTE(gap-name)`, and `gap-name` stands in docs/gaps.md.
                let name = text.split_once(&format!("{note}(")).and_then(|(_, tail)| tail.split_once(')'));
                if !name.is_some_and(|(name, _)| !name.is_empty() && gaps.contains(name)) {
                    faults.add(&file.path, line, &format!("{note} without a line in docs/gaps.md"));
                }
            }
        }
    }
}

/// Clippy denies `unwrap` too; this also finds where it was told not to.
fn unwraps(faults: &mut Faults) {
    for file in CRATES.iter().flat_map(|crate_| sources(crate_.source)) {
        for (line, text) in code_lines(file.code()) {
            if text.contains(".unwrap()") || text.contains("clippy::unwrap_used") {
                faults.add(&file.path, line, "unwraps");
            }
        }
    }
}

/// Every field of the two structs `Limits` stands in docs/config.md.
fn limits(faults: &mut Faults) {
    let config = read("docs/config.md");
    for (path, prefix) in [("src/limits.rs", ""), ("query/src/budget.rs", "query.")] {
        let text = read(path);
        let start = text.find("pub struct Limits {").unwrap();
        let fields = &text[start..start + text[start..].find("\n}").unwrap()];
        for (line, field) in fields.lines().enumerate() {
            let name = field.trim().strip_prefix("pub ").and_then(|field| field.split_once(':'));
            if let Some((name, _)) = name.filter(|(name, _)| *name != "query")
                && !config.contains(&format!("`{prefix}{name}`"))
            {
                let line = text[..start].lines().count() + line;
                faults.add(path, line, &format!("`{prefix}{name}` is not in docs/config.md"));
            }
        }
    }
}

fn dependencies(faults: &mut Faults) {
    const NOTES: &str = "docs/decisions/dependencies.md";
    let Ok(notes) = std::fs::read_to_string(root().join(NOTES)) else {
        eprintln!("SKIPPED: {NOTES} is not there, so no dependency was checked");
        return;
    };
    for path in ["Cargo.toml", "storage/Cargo.toml", "query/Cargo.toml"] {
        let mut section = String::new();
        for (index, line) in read(path).lines().enumerate() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            } else if section.ends_with("dependencies")
                && let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty())
                && line.contains('=')
                && !name.starts_with("icecore")
                && !notes.contains(&format!("`{name}`"))
            {
                faults.add(path, index + 1, &format!("`{name}` is not justified in {NOTES}"));
            }
        }
    }
}

/// Links of documents, and documents that are named in text or code.
fn links(faults: &mut Faults) {
    for path in documents().into_iter().chain(all_files().into_iter().map(|file| file.path)) {
        for (index, line) in read(&path).lines().enumerate() {
            for target in linked(&path, line).into_iter().chain(named_documents(line)) {
                if root().join(&target).exists() {
                    continue;
                }
                if PLANNED.contains(&&*target) {
                    eprintln!("SKIPPED: {path} names {target}, which is still to be written");
                } else {
                    faults.add(&path, index + 1, &format!("`{target}` is not there"));
                }
            }
        }
    }
}

/// Targets of Markdown links to files, relative to the workspace.
fn linked(path: &str, line: &str) -> Vec<String> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    let directory = Path::new(path).parent().unwrap();
    let targets = line.split("](").skip(1).filter_map(|tail| tail.split([')', '#', ' ']).next());
    let is_file =
        |target: &&str| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
    targets.filter(is_file).map(|target| directory.join(target).to_string_lossy().into_owned()).collect()
}

/// Names such as `docs/format.md`.
fn named_documents(line: &str) -> Vec<String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
    let words = line.split(|char| !is_part(char)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.starts_with("docs/") && word.ends_with(".md")).map(str::to_owned).collect()
}

/// Paths of a particular machine help nobody else.
fn machine_paths(faults: &mut Faults) {
    let rust = all_files().into_iter().map(|file| file.path);
    let others =
        ["Cargo.toml", "storage/Cargo.toml", "query/Cargo.toml", "fuzz/Cargo.toml", "deny.toml", ".ci/run"];
    for path in documents().into_iter().chain(rust).chain(others.map(str::to_owned)) {
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            if let Some(found) =
                ["/root/", "/home/", "/work/", "/Users/"].iter().find(|found| names(line, found))
            {
                faults.add(&path, index + 1, &format!("names `{found}`, a path of one machine"));
            }
        }
    }
}

/// What a rule found.
struct Fault {
    path: String,
    line: usize,
    what: String,
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &str, line: usize, what: &str) {
        self.0.push(Fault { path: path.to_owned(), line, what: what.to_owned() });
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
        ["tests.rs", "testing.rs"].contains(&name)
            || self.path.contains("/tests/")
            || self.path.starts_with("tests/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn all_files() -> Vec<File> {
    let rooms =
        ["src", "storage/src", "storage/tests", "query/src", "query/tests", "tests", "benches", "examples"];
    let fuzz = ["fuzz/src", "fuzz/examples", "fuzz/fuzz_targets"];
    rooms.into_iter().chain(fuzz).flat_map(sources).collect()
}

/// The documents: everything in Markdown that is ours.
fn documents() -> Vec<String> {
    let mut paths = Vec::new();
    for directory in ["docs", "tests", "benches", "fuzz/src"] {
        collect(&root().join(directory), "md", &mut paths);
    }
    let below = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let mut paths: Vec<String> = paths.iter().map(below).collect();
    paths.extend(["README.md", "fuzz/README.md"].map(str::to_owned));
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths
}

/// All Rust files below a directory, in order; none when it is not there.
fn sources(directory: &str) -> Vec<File> {
    let mut files = Vec::new();
    collect(&root().join(directory), "rs", &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(root()).unwrap();
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        File { path: parts.join("/"), text }
    };
    files.into_iter().map(read).collect()
}

fn collect(directory: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, ending, files);
        } else if path.extension().is_some_and(|extension| extension == ending) {
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

/// How many modules deep the file is: so many `super::` lead to the crate root.
fn depth_of(crate_: &Crate, path: &str) -> usize {
    let inside = path.strip_prefix(crate_.source).unwrap_or(path).trim_start_matches('/');
    let depth = inside.split('/').count();
    if inside.ends_with("mod.rs") || inside == "lib.rs" || inside == "main.rs" { depth - 1 } else { depth }
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

/// First names after `crate::`, or after as many `super::` as lead to the crate root, groups in braces taken apart,
/// with their lines.
fn crate_names(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code: String = code_lines(text).flat_map(|(_, line)| [line, "\n"]).collect();
    let mut found = Vec::new();
    for root in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&*root).filter(|_| !root.is_empty()) {
            let is_inside =
                ends_in_name(&code[..at]) || (root.starts_with("super") && code[..at].ends_with("::"));
            if is_inside {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let tail = &code[at + root.len()..];
            let parts =
                if let Some(group) = tail.strip_prefix('{') { split_group(group) } else { vec![tail] };
            for part in parts {
                let name: String =
                    part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !name.is_empty() {
                    found.push((line, name));
                }
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
    let names: Vec<_> =
        crate_names(text, 1).into_iter().map(|(line, name)| format!("{line}{name}")).collect();
    assert_eq!(names, ["1a", "1D", "3e"]);
    let escapes = crate_names("use super::super::{x, y};\nuse super::z; w::super::super::v", 2);
    assert_eq!(escapes, [(1, "x".to_owned()), (1, "y".to_owned())]);
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

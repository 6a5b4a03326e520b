//! Cycles between the modules of a crate, found in its text: in `use` declarations, and in paths that begin with `crate`, `self`, `super` or a child module.
//! A path counts for the longest module that it names, so a name that a parent re-exports counts for the parent. What only tests use counts for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Empty for the crate's root, else as `["kafka", "topics"]`.
type Module = Vec<String>;
type Edges = BTreeMap<Module, BTreeSet<Module>>;

/// The cycles of the crate with its sources in `folder`, each as its edges.
pub fn cycles(folder: &Path) -> Vec<String> {
    let read = |file: PathBuf| {
        let name = file.strip_prefix(folder).unwrap().with_extension("");
        let mut module: Module = name.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| matches!(last.as_str(), "lib" | "main" | "mod"));
        (module, std::fs::read_to_string(file).unwrap())
    };
    in_texts(&crate::sources(folder).into_iter().map(read).collect::<Vec<_>>())
}

fn in_texts(files: &[(Module, String)]) -> Vec<String> {
    let modules: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
    let mut edges = Edges::new();
    for (module, text) in files {
        edges.entry(module.clone()).or_default().append(&mut uses(module, text, &modules));
    }
    let reach = |from: &Module| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(next) = open.pop() {
            open.extend(edges[&next].iter().filter(|to| reached.insert((*to).clone())).cloned());
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = modules.iter().map(|module| (module, reach(module))).collect();
    let name = |module: &Module| if module.is_empty() { "crate".to_owned() } else { module.join("::") };
    // Modules that reach each other are one cycle, kept under the first of them.
    let mut found: BTreeMap<&Module, Vec<String>> = BTreeMap::new();
    for (from, to) in edges.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to))) {
        if reached[to].contains(from) {
            let first = modules.iter().find(|other| reached[other].contains(from) && reached[from].contains(*other)).unwrap();
            found.entry(first).or_default().push(format!("{} -> {}", name(from), name(to)));
        }
    }
    found.into_values().map(|edges| edges.join(", ")).collect()
}

/// Which others of `modules` the text of `module` names.
fn uses(module: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let (tokens, mut at) = (tokens(text), 0);
    let (mut scopes, mut depth, mut used) = (vec![(0, module.clone())], 0, BTreeSet::new());
    // Within a `use`: what stands before each open brace, and the path at hand.
    let (mut trees, mut path): (Vec<Vec<&str>>, Vec<&str>) = (Vec::new(), Vec::new());
    while at < tokens.len() {
        let rest = &tokens[at..];
        let (scope, in_use) = (scopes.last().unwrap().1.clone(), !trees.is_empty());
        at += 1;
        match rest {
            ["#", "[", "cfg", "(", "test", ")", ..] => at += item(rest) - 1,
            ["mod", name, "{", ..] => scopes.push((depth + 1, [scope, vec![(*name).to_owned()]].concat())),
            ["use", next, ..] if *next != "<" => (trees, path) = (vec![Vec::new()], Vec::new()),
            ["{", ..] if in_use => trees.push(path.clone()),
            [sign @ ("," | "}" | ";"), ..] if in_use => {
                if trees.last() != Some(&path) {
                    used.extend(named(scope, &path, modules));
                }
                match *sign {
                    ";" => trees.clear(),
                    // What is before the brace is used by what is between the braces only.
                    "}" => path = trees.pop().and(trees.last()).cloned().unwrap_or_default(),
                    _ => path.clone_from(trees.last().unwrap()),
                }
            }
            [token, ..] if in_use => path.extend(token.split("::").filter(|part| !part.is_empty())),
            [token, ..] if token.contains("::") && !token.starts_with("::") => used.extend(named(scope, &token.split("::").collect::<Vec<_>>(), modules)),
            _ => {}
        }
        depth += i32::from(rest[0] == "{") - i32::from(rest[0] == "}");
        scopes.pop_if(|(opened, _)| *opened > depth && rest[0] == "}");
    }
    used.remove(module);
    used
}

/// The module that a path in `scope` leads to or into; none where it begins in another crate or with a local name.
fn named(scope: Module, path: &[&str], modules: &BTreeSet<Module>) -> Option<Module> {
    let is_child = modules.contains(&[scope.clone(), vec![path[0].to_owned()]].concat());
    let mut full = if path[0] == "crate" { Module::new() } else { scope };
    for part in path {
        match *part {
            "crate" | "self" => {}
            "super" => drop(full.pop()),
            name => full.push(name.to_owned()),
        }
    }
    let leads_here = is_child || matches!(path[0], "crate" | "self" | "super");
    (0..=full.len()).rev().map(|length| full[..length].to_vec()).find(|prefix| modules.contains(prefix)).filter(|_| leads_here)
}

/// How many tokens the first item has, with its attributes.
fn item(tokens: &[&str]) -> usize {
    let mut depth = 0;
    let is_end = |token: &&str| {
        depth += i32::from(matches!(*token, "{" | "[" | "(")) - i32::from(matches!(*token, "}" | "]" | ")"));
        depth == 0 && matches!(*token, "}" | ";")
    };
    tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)
}

/// Paths, words and signs, without comments and literals.
fn tokens(text: &str) -> Vec<&str> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let through = |from: usize, end: &str| rest.get(from..).and_then(|rest| rest.find(end)).map_or(rest.len(), |found| from + found + end.len());
        let before = text[..at].trim_end_matches('#');
        let (length, is_token) = match first {
            '/' if rest.starts_with("//") => (through(2, "\n"), false),
            '/' if rest.starts_with("/*") => (through(2, "*/"), false),
            '"' if before.ends_with('r') => (through(1, &format!("\"{}", &text[before.len()..at])), false),
            '"' => {
                let is_escaped = |end: usize| rest[1..=end].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
                (rest[1..].match_indices('"').find(|(end, _)| !is_escaped(*end)).map_or(rest.len(), |(end, _)| end + 2), false)
            }
            '\'' if rest.starts_with("'\\") => (through(3, "'"), false),
            '\'' if rest.chars().nth(2) == Some('\'') => (through(1, "'"), false),
            _ if is_of_path(first) => (rest.find(|c| !is_of_path(c)).unwrap_or(rest.len()), true),
            _ => (first.len_utf8(), !first.is_whitespace()),
        };
        tokens.extend(is_token.then_some(&rest[..length]));
        at += length;
    }
    tokens
}

#[test]
fn a_cycle_is_found_and_its_edges_are_named() {
    let parent = r#"/* crate::part */ const TEXT: &str = "\"crate::part"; pub use child::{Limit, grow};"#;
    let child = "fn grow<'a>(_: &'a str) -> [char; 2] { ['\"', '\\''] } // '\nuse super::{leaf::Size, Root as Tree,};";
    let leaf = "pub struct Size;\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests { use super::*; use crate::part::end; }";
    let part = "mod inner { fn end() { super::super::child::grow(\"\") } }";
    let files = [("", parent), ("child", child), ("leaf", leaf), ("part", part)];
    let files = files.map(|(name, text)| (name.split_terminator("::").map(str::to_owned).collect(), text.to_owned()));
    assert_eq!(in_texts(&files), ["crate -> child, child -> crate"]);
    let modules = files.iter().map(|(module, _)| module.clone()).collect();
    let of_files = files.each_ref().map(|(module, text)| uses(module, text, &modules).iter().map(|used| used.join("::")).collect::<Vec<_>>());
    assert_eq!(of_files, [vec!["child"], vec!["", "leaf"], vec![], vec!["child"]]);
}

//! Relative links of the pages lead to tracked files, their anchors to headings, and every page is linked to from another.

use super::{Checked, Finding, counted, sources::Sources};
use std::collections::BTreeSet;

/// Where readers come from outside.
const ENTRANCE: &str = "README.md";

pub(super) fn check(sources: &Sources) -> Checked {
    let mut findings = Vec::new();
    let (mut pages, mut followed, mut outside) = (0, 0, 0);
    let mut linked = BTreeSet::new();
    for page in sources.ending(".md") {
        pages += 1;
        for (line, target) in links(&page.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                outside += 1;
                continue;
            }
            followed += 1;
            linked.extend(file_of(&page.path, target).filter(|file| *file != page.path));
            if let Some(what) = broken(sources, &page.path, target) {
                findings.push(Finding::new(&page.path, line, what));
            }
        }
    }
    for page in sources.ending(".md").filter(|page| page.path != ENTRANCE) {
        // A link to a folder leads to every page in it.
        let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !linked.contains(&page.path) && !linked.contains(folder) {
            findings.push(Finding::new(
                &page.path,
                1,
                "no other page links here: link to it from where its readers come",
            ));
        }
    }
    let seen =
        format!("{}, {} followed, {} to other places not", counted(pages, "page"), counted(followed, "link"), outside);
    Checked { findings, seen }
}

/// Targets of inline links outside of fenced blocks and code, with their lines.
fn links(page: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (line, number) in page.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Odd pieces stand between backticks; a link's text may hold code, its target never does.
        for piece in line.split('`').step_by(2) {
            let targets = piece.match_indices("](").filter_map(|(at, open)| piece[at + open.len()..].split(')').next());
            found.extend(targets.map(|target| (number, target)));
        }
    }
    found
}

/// What is wrong with a relative link, if anything.
fn broken(sources: &Sources, from: &str, target: &str) -> Option<String> {
    let Some(file) = file_of(from, target).filter(|file| sources.has(file)) else {
        return Some(format!("links to `{target}`, which is not in the project: mend the link or commit the file"));
    };
    let (_, anchor) = target.split_once('#')?;
    let text = sources.text(&file).filter(|_| file.ends_with(".md"))?;
    let there = text.lines().filter_map(heading).any(|heading| slug(heading) == anchor);
    (!there).then(|| format!("links to `{target}`, and `{file}` has no such heading: mend the anchor"))
}

/// The file or folder of a relative link as seen from the page `from`; nothing when it leaves the project, which no clone can follow.
fn file_of(from: &str, target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    (text.len() < line.len()).then(|| text.strip_prefix(' '))?
}

/// A heading's anchor as GitHub makes it: lower case, spaces to hyphens, everything else but letters, digits, `-` and `_` dropped.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_page(text: &str, expected: &[&str]) {
        let readme = "# Read me\n## `serve`: a node\n[a](docs/a.md) [b](docs/b.md)";
        let files = [("docs/a.md", text), ("README.md", readme), ("docs/b.md", "")];
        check(&Sources::of(&files)).assert_told(expected);
    }

    #[test]
    fn links_to_tracked_files_folders_and_headings_are_good() {
        check_page(
            "[b](b.md) and [up](../README.md#read-me), [node](../README.md#serve-a-node), [docs](../docs/), [x](https://x.org/y)",
            &[],
        );
        check_page("# Top\n[`code`](b.md) [top](#top)", &[]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told_at_its_line() {
        check_page("one\n[c](c.md)", &["docs/a.md:2: links to `c.md`"]);
        check_page("[out](../../elsewhere.md)", &["not in the project"]);
        check_page("[c](../README.md#write-me)", &["no such heading"]);
    }

    #[test]
    fn a_page_is_linked_to_by_name_or_by_its_folder() {
        let files = |readme| [("README.md", readme), ("spec/a.md", "[self](a.md)")];
        check(&Sources::of(&files("[a](spec/a.md)"))).assert_told(&[]);
        check(&Sources::of(&files("[a](spec/)"))).assert_told(&[]);
        check(&Sources::of(&files("nothing"))).assert_told(&["spec/a.md:1: no other page links here"]);
    }

    #[test]
    fn code_is_not_followed() {
        check_page("```text\n[c](c.md)\n```\n`[c](c.md)`", &[]);
    }
}

//! Every link of a page leads to a file and a heading that are there.

use super::*;

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &str) -> BTreeSet<String> {
    let (_, text) = blocks(page);
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

fn broken_links(page: &str, text: &str) -> Vec<String> {
    let (_, text) = blocks(text);
    let mut broken = Vec::new();
    for rest in text.split("](").skip(1) {
        let Some((to, _)) = rest.split_once(')') else { continue };
        if to.contains("://") {
            continue;
        }
        let (file, place) = to.split_once('#').map_or((to, None), |(file, place)| (file, Some(place)));
        let folder = Path::new(page).parent().unwrap();
        let path = if file.is_empty() { root().join(page) } else { root().join(folder).join(file) };
        if !path.exists() {
            broken.push(format!("{page}: {to} leads nowhere"));
        } else if let Some(place) = place
            && !anchors(&fs::read_to_string(&path).unwrap()).contains(place)
        {
            broken.push(format!("{page}: {to}: no such heading"));
        }
    }
    broken
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        links += text.matches("](").count();
        expect_nothing(broken_links(&page, &text));
    }
    assert!(links > 50, "{links}");
    let broken = broken_links(
        "docs/limits.md",
        "[a](../README.md) [b](nowhere.md) [c](limits.md#no-such) [d](#memory)",
    );
    assert_eq!(
        broken,
        ["docs/limits.md: nowhere.md leads nowhere", "docs/limits.md: limits.md#no-such: no such heading"]
    );
    assert_eq!(
        anchor("Why the library alone doesn't do it: `no_rule`"),
        "why-the-library-alone-doesnt-do-it-no_rule"
    );
}

/// The sections that a page's own list of sections, before the first of them, leaves out.
fn unlisted(page: &str, text: &str) -> Vec<String> {
    let (_, text) = blocks(text);
    let head = text.split("\n## ").next().unwrap();
    if !head.contains("](#") {
        return Vec::new();
    }
    let sections = text.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor);
    let unlisted = sections.filter(|section| !head.contains(&format!("](#{section})")));
    unlisted.map(|section| format!("{page}: its list of sections lacks #{section}")).collect()
}

#[test]
fn lists_of_sections_are_whole() {
    for (page, text) in pages().into_iter().filter(|(page, _)| page.starts_with("docs/")) {
        expect_nothing(unlisted(&page, &text));
    }
    let some = "# A\n\n- [b](#b)\n\n## b\n\n## c d\n";
    assert_eq!(unlisted("a.md", some), ["a.md: its list of sections lacks #c-d"]);
    assert_eq!(unlisted("a.md", "# A\n\n## b\n"), Vec::<String>::new());
}

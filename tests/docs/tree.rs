//! The README's table of the source tree names every room, and none that isn't there.

use super::*;

/// The paths of the table's rows.
fn named(readme: &str) -> BTreeSet<String> {
    let rows = section(readme, "## The source tree");
    let first = rows.iter().filter_map(|line| cells(line)).filter(|row| row[0].starts_with('`'));
    let paths = first.flat_map(|row| row[0].split(", "));
    paths.map(|path| path.trim_matches('`').trim_end_matches('/').to_owned()).collect()
}

fn mistakes(readme: &str) -> Vec<String> {
    let named = named(readme);
    let absent = named.iter().filter(|path| !root().join(path).exists());
    let absent = absent.map(|path| format!("README.md: {path} isn't there"));
    let mut rooms: BTreeSet<String> = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        // An empty folder is what a move left behind in this checkout alone.
        if entry.file_type().unwrap().is_dir() && fs::read_dir(entry.path()).unwrap().next().is_some() {
            rooms.insert(format!("src/{}", entry.file_name().to_string_lossy()));
        }
    }
    // A folder beside a file of its name holds that file's tests.
    let missing =
        rooms.iter().filter(|room| !named.contains(*room) && !named.contains(&format!("{room}.rs")));
    absent.chain(missing.map(|room| format!("README.md: the source tree lacks {room}/"))).collect()
}

#[test]
fn the_source_tree_has_every_room() {
    let readme = read("README.md");
    expect_nothing(mistakes(&readme));
    let gap = readme.replacen("| `src/findings/` |", "| `src/foundlings/` |", 1);
    assert_eq!(mistakes(&gap).len(), 2, "{:?}", mistakes(&gap));
}

use super::*;

const NOW: u64 = 1_795_770_000;
const HOUR: u64 = 3600;

#[test]
fn of_old_versions_only_what_tells_deadlines_is_needed() {
    // One every six hours, for three months.
    let tokens: Vec<u64> = (0..360).rev().map(|n| NOW - n * 6 * HOUR).collect();
    let needed = needed(&tokens, NOW);
    assert!(needed.contains(&NOW) && needed.len() < 60, "{}", needed.len());
    // Of two days all, and one of each day before.
    let young = needed.iter().filter(|token| NOW - **token < 48 * HOUR).count();
    assert_eq!(young, 8);
    let day = |token: &u64| token / (24 * HOUR);
    for ago in 3..45 {
        let that = day(&(NOW - ago * 24 * HOUR));
        let last = tokens.iter().filter(|token| day(token) == that).max().unwrap();
        assert_eq!(needed.iter().filter(|token| day(token) == that).collect::<Vec<_>>(), [last], "{ago}");
    }
    // One more says what was there before.
    assert_eq!(needed.iter().filter(|token| NOW - **token >= 45 * 24 * HOUR).count(), 1);
    // A single old one, and made-up tokens.
    assert_eq!(super::needed(&[1], NOW), [1]);
    assert!(super::needed(&[1, 2, u64::MAX], u64::MAX).contains(&u64::MAX));
}

#[test]
fn versions_are_kept_accepted_and_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path().join("state")).unwrap();
    state.keep(NOW - 80 * 24 * HOUR, b"oldest").unwrap();
    state.keep(NOW - 70 * 24 * HOUR, b"old").unwrap();
    state.keep(NOW, b"one").unwrap();
    state.keep_aside(NOW - 1, b"less").unwrap();
    state.keep_aside(NOW + 1, b"half").unwrap();
    fs::write(state.path().join("ip-ranges-x.json"), "").unwrap();
    fs::write(state.path().join("notes.json"), "").unwrap();
    state.prune(NOW).unwrap();
    let tokens = |all: &[Kept]| all.iter().map(|kept| kept.sync_token).collect::<Vec<_>>();
    let contents = state.contents().unwrap();
    assert_eq!(tokens(&contents.versions), [NOW - 70 * 24 * HOUR, NOW]);
    assert_eq!(tokens(&contents.aside), [NOW + 1]);
    state.accept(&contents.aside[0]).unwrap();
    let contents = state.contents().unwrap();
    assert_eq!(tokens(&contents.versions), [NOW - 70 * 24 * HOUR, NOW, NOW + 1]);
    assert!(contents.aside.is_empty());
    assert_eq!(fs::read(&contents.versions[2].path).unwrap(), b"half");
    // Nothing of anybody else's was touched, and nothing is left over.
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 5);
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, why) in [(file.clone(), "can't be read"), (file.join("below"), "can't be made")] {
        let error = State::open(path.clone()).unwrap_err();
        assert!(error.starts_with(&format!("{}: {why}", path.display())), "{error}");
    }
}

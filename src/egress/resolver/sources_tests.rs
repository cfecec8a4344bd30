//! What the sources of answers keep, and how they say what is missing.

use super::*;
use crate::egress::dns::Failure;
use crate::egress::dns::stub::{Definite, Heard};

const NAME: &str = "name.example";

fn sources() -> Sources {
    let files = Files { servers: "/nowhere".into(), hosts: "/nowhere".into() };
    let options = Options { servers: vec![([192, 0, 2, 53], 53).into()], ..Options::default() };
    read(&options, &files, None).0
}

fn keep(sources: &Sources, known: &Arc<[IpAddr]>) {
    let entry = Entry::new(Ok(Addresses::all(known.clone())), POSITIVE_TTL);
    sources.cache.insert(NAME.into(), entry);
}

#[tokio::test]
async fn a_late_family_joins_the_answer_that_it_belongs_to() {
    let sources = sources();
    let [four, six] = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse::<IpAddr>().unwrap());
    let (known, anew): (Arc<[IpAddr]>, Arc<[IpAddr]>) = ([four].into(), [four].into());
    let late = || Rest::new(Box::pin(async move { Ok(Definite::Addresses(vec![six], 60)) }));
    let kept = || sources.cache.get(NAME).unwrap().known.unwrap().known;
    keep(&sources, &known);
    sources.complete(NAME, known.clone(), late()).await;
    assert_eq!(*kept(), [four, six]);
    // Its time is over before the other family answers, and the name has been asked for once more.
    keep(&sources, &anew);
    sources.complete(NAME, known, late()).await;
    assert!(Arc::ptr_eq(&kept(), &anew), "{:?}", kept());
}

/// Whether the name is still known after what is kept of a failure, and before its own time is over.
async fn outlives_a_failure(late: Heard) -> bool {
    let sources = sources();
    let known: Arc<[IpAddr]> = ["2001:db8::1".parse().unwrap()].into();
    keep(&sources, &known);
    sources.complete(NAME, known, Rest::new(Box::pin(async { late }))).await;
    let entry = sources.cache.get(NAME).unwrap();
    entry.valid_until > Instant::now() + NEGATIVE_TTL
}

#[tokio::test]
async fn a_late_family_that_failed_is_asked_for_again_soon() {
    for failure in [Failure::Timeout, Failure::Lame, Failure::Unreachable("gone".to_owned())] {
        assert!(!outlives_a_failure(Err(failure.clone())).await, "{failure:?}");
    }
    // What the server says is definite, and holds as long as the addresses.
    assert!(outlives_a_failure(Ok(Definite::Nothing(true, Some(1)))).await);
    assert!(outlives_a_failure(Ok(Definite::Nothing(false, None))).await);
    assert!(outlives_a_failure(Ok(Definite::Addresses(vec!["192.0.2.1".parse().unwrap()], 60))).await);
}

#[test]
fn a_server_that_no_file_names_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { servers: folder.path().join("resolv.conf"), hosts: folder.path().join("hosts") };
    let told = |text: &str| {
        std::fs::write(&files.servers, text).unwrap();
        let sources = read(&Options::default(), &files, None).0;
        sources.explained(ResolveError::Transport("refused".to_owned())).to_string()
    };
    let unnamed = told("search corp.example\n");
    assert!(
        unnamed.contains("refused; ") && unnamed.contains("resolv.conf names no DNS server"),
        "{unnamed}"
    );
    assert!(told("nameserver 127.0.0.1\n").ends_with("refused"));
}

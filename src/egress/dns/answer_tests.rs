//! The seeds of the fuzz target, and what each of them says.

use super::*;

fn said(seed: &str, family: Family) -> Option<Reply> {
    let file = format!("{}/fuzz/corpus/dns_answer/{seed}", env!("CARGO_MANIFEST_DIR"));
    read(&std::fs::read(file).unwrap(), &Question::new("name.example", family).unwrap(), &[0x1234])
}

#[test]
fn each_seed_says_what_it_should() {
    let address = |text: &str, ttl| Said::Addresses(vec![text.parse().unwrap()], ttl);
    let code = |code| Said::Failed(Failure::Code(Rcode(code)));
    let elsewhere = Question::new("end.elsewhere", Family::V4).unwrap().name;
    for (seed, expected) in [
        ("a", address("127.0.0.1", 60)),
        ("alias", address("10.0.0.1", 60)),
        ("alias-alone", Said::Alias(elsewhere, 60)),
        ("circle", Said::Failed(Failure::Circle)),
        ("nothing", Said::Nothing { exists: true, ttl: Some(60) }),
        ("nxdomain", Said::Nothing { exists: false, ttl: Some(60) }),
        ("bare", code(ResponseCode::FormErr)),
        ("badvers", code(ResponseCode::BADVERS)),
        ("cut", address("127.0.0.1", 60)),
        ("lame", Said::Failed(Failure::Lame)),
        ("pointer", Said::Failed(Failure::Unreadable)),
    ] {
        let reply = said(seed, Family::V4).unwrap_or_else(|| panic!("{seed} is an answer"));
        assert_eq!(reply.said, expected, "{seed}");
        assert_eq!(reply.truncated, seed == "cut");
    }
    let six = said("aaaa", Family::V6).unwrap();
    assert!(six.edns && six.said == address("::1", 60), "{six:?}");
    assert!(said("a", Family::V6).is_none() && said("aaaa", Family::V4).is_none(), "another question");
}

#[test]
fn which_codes_may_be_for_edns() {
    let reply = |code, edns| {
        let said = Said::Failed(Failure::Code(Rcode(code)));
        Reply { id: 0, edns, truncated: false, said }.may_be_for_edns()
    };
    use ResponseCode::{BADVERS, FormErr, NotImp, Refused, ServFail};
    assert!([FormErr, NotImp, BADVERS].iter().all(|code| reply(*code, true) && reply(*code, false)));
    // Who knows EDNS and fails, fails for another reason.
    assert!([ServFail, Refused].iter().all(|code| !reply(*code, true) && reply(*code, false)));
}

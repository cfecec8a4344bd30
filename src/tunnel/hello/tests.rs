//! Hellos of a real client, whole, cut and re-recorded; hellos made by hand with one thing wrong;
//! and agreement with rustls, which stands for the TLS server behind the tunnel.

use std::io::Cursor;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::{default_provider, hpke, kx_group};
use rustls::pki_types::{EchConfigListBytes, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

const NAME: &str = "acme.my.connect.aws";

fn named(name: &str) -> Host {
    Host::Name(name.into())
}

/// What bytes are that came at once.
fn judge(bytes: &[u8], check: Check, host: &Host) -> Verdict {
    Judge::default().judge(bytes, check, host)
}

fn sni(bytes: &[u8]) -> Verdict {
    judge(bytes, Check::Sni, &named(NAME))
}

/// What the hello names, whoever asked: nobody has a host that long.
fn name_of(bytes: &[u8]) -> Verdict {
    judge(bytes, Check::Sni, &named(&"nobody.".repeat(100)))
}

fn is_not_tls(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::NotTls(_))
}

/// How a real client may differ from the next.
#[derive(Clone, Debug)]
struct Client {
    name: &'static str,
    sni: bool,
    post_quantum: bool,
    only_tls12: bool,
    /// Protocol names of 255 bytes each, which makes a hello as long as one likes.
    protocols: usize,
}

const CLIENT: Client = Client { name: NAME, sni: true, post_quantum: true, only_tls12: false, protocols: 0 };

impl Client {
    fn hello(&self) -> Vec<u8> {
        let mut provider = default_provider();
        if !self.post_quantum {
            provider.kx_groups = vec![kx_group::X25519];
        }
        let versions: &[_] = if self.only_tls12 { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.enable_sni = self.sni;
        config.alpn_protocols = (0..self.protocols).map(|_| vec![b'p'; 255]).collect();
        first_flight(config, self.name)
    }
}

fn first_flight(config: ClientConfig, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn with_ech(mode: EchMode) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_ech(mode)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    first_flight(config, NAME)
}

fn clients() -> Vec<Client> {
    let mut all = Vec::new();
    for post_quantum in [true, false] {
        for only_tls12 in [true, false] {
            // 64 names make the hello longer than one record may be.
            for protocols in [0, 1, 8, 55, 70] {
                all.push(Client { post_quantum, only_tls12, protocols, ..CLIENT });
            }
        }
    }
    all
}

/// The same bytes of handshake in other records, of these lengths in turn.
fn records(hello: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = hello;
    while let [_, _, _, a, b, body @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b]));
        message.extend_from_slice(&body[..length]);
        rest = &body[length..];
    }
    let mut bytes = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        let (fragment, next) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        bytes.extend([HANDSHAKE, 3, 1]);
        bytes.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(fragment);
        rest = next;
    }
    bytes
}

#[test]
fn hellos_of_real_clients_pass() {
    for client in clients() {
        let hello = client.hello();
        assert_eq!(sni(&hello), Verdict::Pass, "{client:?}");
        assert_eq!(judge(&hello, Check::Sni, &named("acme.my.connect.aw")), name_of(&hello));
        assert_eq!(name_of(&hello), Verdict::SniMismatch(Some(NAME.into())), "{client:?}");
        assert_eq!(judge(&hello, Check::Tls, &named("other.example")), Verdict::Pass);
        // What comes behind it is not looked at.
        assert_eq!(sni(&[hello.as_slice(), b"\x17\x03\x03\x00\x00anything"].concat()), Verdict::Pass);
    }
    let large = Client { protocols: 58, ..CLIENT }.hello();
    assert!((16_000..17_000).contains(&large.len()), "padded to 16 KiB: {}", large.len());
    let several = Client { protocols: 70, ..CLIENT }.hello();
    assert!(several.len() > 5 + MAX_FRAGMENT, "the client itself takes several records");
    assert_ne!(Client { post_quantum: false, ..CLIENT }.hello().len(), CLIENT.hello().len());
}

#[test]
fn a_hello_without_a_name_passes_to_an_address_only() {
    for client in clients() {
        let hello = Client { sni: false, ..client }.hello();
        assert_eq!(sni(&hello), Verdict::SniMismatch(None));
        assert_eq!(judge(&hello, Check::Sni, &Host::Ip([192, 0, 2, 1].into())), Verdict::Pass);
        assert_eq!(judge(&hello, Check::Tls, &named(NAME)), Verdict::Pass);
    }
    let address = Host::Ip([192, 0, 2, 1].into());
    assert_eq!(judge(&CLIENT.hello(), Check::Sni, &address), Verdict::SniMismatch(Some(NAME.into())));
    // A client that dials an address sends no name either.
    let hello = Client { name: "192.0.2.1", ..CLIENT }.hello();
    assert_eq!(judge(&hello, Check::Sni, &address), Verdict::Pass);
}

#[test]
fn a_hello_cut_anywhere_waits_for_the_rest() {
    for client in [CLIENT, Client { post_quantum: false, ..CLIENT }, Client { only_tls12: true, ..CLIENT }] {
        let hello = client.hello();
        for sizes in [&[usize::MAX][..], &[1], &[5, 1, 700]] {
            let bytes = if sizes == [usize::MAX] { hello.clone() } else { records(&hello, sizes) };
            let mut pieces = Judge::default();
            for cut in 0..bytes.len() {
                assert_eq!(sni(&bytes[..cut]), Verdict::Incomplete, "{client:?} cut at {cut}");
                let verdict = pieces.judge(&bytes[..cut], Check::Sni, &named(NAME));
                assert_eq!(verdict, Verdict::Incomplete, "{client:?} in pieces, up to {cut}");
            }
            assert_eq!(sni(&bytes), Verdict::Pass);
            assert_eq!(pieces.judge(&bytes, Check::Sni, &named(NAME)), Verdict::Pass);
        }
    }
}

#[test]
fn a_stranger_is_recognised_by_its_first_wrong_byte() {
    for (bytes, enough) in [
        (b"GET / HTTP/1.1\r\n".as_slice(), 1),
        (b"SSH-2.0-OpenSSH_9.7\r\n", 1),
        (b"EHLO x\r\n", 1),
        (b"\x03\x00\x00\x13\x0e\xe0", 1),
        // Alert, ChangeCipherSpec and data first; an SSLv2 hello.
        (b"\x15\x03\x03\x00\x02\x01\x00", 1),
        (b"\x14\x03\x03\x00\x01\x01", 1),
        (b"\x17\x03\x03\x00\x05hello", 1),
        (b"\x80\x2e\x01\x03\x01\x00\x15", 1),
        (b"\x16\x02\x00\x00\x05\x01", 2),
        (b"\x16\x03\x05\x00\x05\x01", 3),
        (b"\x16\x03\xff\x00\x05\x01", 3),
        // Records that are empty or too long; messages that are another or too long.
        (b"\x16\x03\x01\x00\x00", 5),
        (b"\x16\x03\x01\x40\x01\x01", 5),
        (b"\x16\x03\x01\xff\xff\x01", 5),
        (b"\x16\x03\x01\x00\x05\x02", 6),
        (b"\x16\x03\x01\x00\x05\x00", 6),
        (b"\x16\x03\x01\x00\x05\x01\xff\xff\xff", 9),
        (b"\x16\x03\x01\x00\x05\x01\x01\x00\x00", 9),
    ] {
        for check in [Check::Sni, Check::Tls] {
            for cut in 0..bytes.len() {
                let verdict = judge(&bytes[..cut], check, &named(NAME));
                let expected =
                    if cut < enough { verdict == Verdict::Incomplete } else { is_not_tls(&verdict) };
                assert!(expected, "{bytes:?} cut at {cut}: {verdict:?}");
            }
        }
        assert_eq!(judge(bytes, Check::Off, &named(NAME)), Verdict::Pass);
    }
}

#[test]
fn other_records_between_the_fragments_are_not_tls() {
    let cut = records(&CLIENT.hello(), &[100]);
    for between in [
        b"\x16\x03\x01\x00\x00".as_slice(),
        b"\x15\x03\x03\x00\x02\x01\x00",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x17\x03\x03\x00\x01x",
    ] {
        let bytes = [&cut[..105], between, &cut[105..]].concat();
        assert!(is_not_tls(&sni(&bytes)), "{between:?}");
    }
}

#[test]
fn a_hello_that_never_ends_is_too_long() {
    // Announces as much as is allowed and comes in records of one byte: six bytes for each.
    let record = |byte| [HANDSHAKE, 3, 1, 0, 1, byte];
    let mut bytes = [1, 0, 0xff, 0xfb].map(record).concat();
    bytes.extend([0].map(record).concat().repeat(MAX_HELLO / 6));
    for length in (0..MAX_HELLO).step_by(1009) {
        assert_eq!(sni(&bytes[..length]), Verdict::Incomplete, "after {length}");
    }
    for length in MAX_HELLO..bytes.len() {
        assert!(is_not_tls(&sni(&bytes[..length])), "after {length}");
    }
}

/// A hello made by hand, so that anything in it can be wrong.
#[derive(Clone)]
struct Made {
    extensions: Vec<(u16, Vec<u8>)>,
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// An entry of the server name list.
fn entry(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind], vector(name).as_slice()].concat()
}

impl Made {
    fn names(entries: &[Vec<u8>]) -> Self {
        Self::with(&[(0, vector(&entries.concat()))])
    }

    fn with(extensions: &[(u16, Vec<u8>)]) -> Self {
        Self { extensions: extensions.to_vec() }
    }

    fn hello(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for (kind, data) in &self.extensions {
            block.extend(kind.to_be_bytes());
            block.extend(vector(data));
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(32);
        body.extend([9; 32]);
        body.extend(vector(&[0x13, 0x01, 0x13, 0x02]));
        body.extend([1, 0]);
        body.extend(vector(&block));
        wrapped(&body)
    }
}

/// A handshake message of type ClientHello in one record.
fn wrapped(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![HANDSHAKE, 3, 1];
    bytes.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend([CLIENT_HELLO, 0]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn one_name(name: &[u8]) -> Vec<u8> {
    Made::names(&[entry(0, name)]).hello()
}

#[test]
fn case_and_one_trailing_dot_fold_and_nothing_else() {
    for name in ["acme.my.connect.aws", "ACME.my.Connect.AWS", "acme.my.connect.aws.", "Acme.My.Connect.Aws."]
    {
        assert_eq!(sni(&one_name(name.as_bytes())), Verdict::Pass, "{name}");
    }
    for name in [
        b"".as_slice(),
        b".",
        b"acme.my.connect.aws..",
        b".acme.my.connect.aws",
        b" acme.my.connect.aws",
        b"acme.my.connect.aws ",
        b"acme.my.connect.aws\0",
        b"acme.my.connect.aws\0.evil.example",
        b"acme\0my.connect.aws",
        b"acme.my.connect.aws:443",
        b"acme.my.connect.aws/",
        b"xacme.my.connect.aws",
        b"cme.my.connect.aws",
        b"acme.my.connect.aws.evil.example",
        b"*.my.connect.aws",
        b"acme.my.connect.aw\xf3",
        b"acm\xc3\xa9.my.connect.aws",
        b"192.0.2.1",
        b"[2001:db8::1]",
    ] {
        let verdict = sni(&one_name(name));
        assert!(matches!(verdict, Verdict::SniMismatch(Some(_))), "{name:?}: {verdict:?}");
    }
    // What goes to the log is escaped and short.
    let Verdict::SniMismatch(Some(shown)) =
        sni(&one_name(&[b"\x1b[31m\r\n\0\"".as_slice(), &[b'x'; 5000]].concat()))
    else {
        panic!("no name")
    };
    assert!(shown.len() < 400 && shown.bytes().all(|b| (b' '..0x7f).contains(&b)), "{shown}");
}

#[test]
fn an_address_as_a_name_is_no_name_of_an_address() {
    let address = Host::Ip([192, 0, 2, 1].into());
    let verdict = judge(&one_name(b"192.0.2.1"), Check::Sni, &address);
    assert_eq!(verdict, Verdict::SniMismatch(Some("192.0.2.1".into())));
}

#[test]
fn two_names_are_none() {
    let (ours, other) = (entry(0, NAME.as_bytes()), entry(0, b"evil.example"));
    for entries in [
        vec![ours.clone(), other.clone()],
        vec![other, ours.clone()],
        vec![ours.clone(), ours.clone()],
        // Another type of name, whose length nobody knows: RFC 6066 leaves no way to skip it.
        vec![entry(1, NAME.as_bytes())],
        vec![ours.clone(), entry(1, b"x")],
        vec![entry(1, b"x"), ours],
    ] {
        assert_eq!(sni(&Made::names(&entries).hello()), Verdict::SniMismatch(None), "{entries:?}");
    }
}

#[test]
fn extensions_beside_the_name_do_not_matter_and_a_second_name_does() {
    let name = (0, vector(&entry(0, NAME.as_bytes())));
    let other = (0, vector(&entry(0, b"evil.example")));
    let grease = (0x0a0a, Vec::new());
    let ech = (0xfe0d, vec![0, 0, 1, 0, 1, 7, 0, 1, 1, 0, 1, 1]);
    let padding = (21, vec![0; 16_000]);
    for extensions in [
        vec![name.clone()],
        vec![grease.clone(), ech.clone(), name.clone(), padding.clone()],
        vec![padding, name.clone(), grease.clone(), grease.clone()],
    ] {
        assert_eq!(sni(&Made::with(&extensions).hello()), Verdict::Pass);
    }
    for extensions in [
        vec![name.clone(), other.clone()],
        vec![other.clone(), name.clone()],
        vec![name.clone(), grease, name.clone()],
        vec![(0, Vec::new()), name.clone()],
        vec![name, ech, other],
    ] {
        assert!(is_not_tls(&sni(&Made::with(&extensions).hello())), "{extensions:?}");
    }
    // An empty extension is what servers send; of a client it names nothing.
    for nothing in [Vec::new(), vec![0, 0]] {
        let hello = Made::with(&[(0, nothing)]).hello();
        assert_eq!(sni(&hello), Verdict::SniMismatch(None));
    }
    // So do no extensions at all, without even their length: TLS 1.0 allowed that.
    let mut old = vec![3, 1];
    old.extend([7; 32]);
    old.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    assert_eq!(sni(&wrapped(&old)), Verdict::SniMismatch(None));
}

#[test]
fn no_wrong_length_passes() {
    let hello =
        Made::with(&[(0x0a0a, Vec::new()), (0, vector(&entry(0, NAME.as_bytes()))), (43, vec![2, 3, 4])])
            .hello();
    assert_eq!(sni(&hello), Verdict::Pass);
    // Where each length is, and in how many bytes.
    let at = hello.windows(NAME.len()).position(|w| w == NAME.as_bytes()).unwrap();
    let lengths = [
        ("record", 3, 2),
        ("message", 6, 3),
        ("session id", 43, 1),
        ("cipher suites", 76, 2),
        ("compression methods", 82, 1),
        ("extensions", 84, 2),
        ("first extension", 88, 2),
        ("server_name", at - 7, 2),
        ("list", at - 5, 2),
        ("name", at - 2, 2),
        ("last extension", at + NAME.len() + 2, 2),
    ];
    for (what, offset, bytes) in lengths {
        let right = hello[offset..offset + bytes].iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
        let most = (1 << (8 * bytes)) - 1;
        let nearby = (right.saturating_sub(40)..=(right + 40).min(most)).chain([0, most, most / 2]);
        for wrong in nearby.filter(|n| *n != right) {
            let mut changed = hello.clone();
            for (i, byte) in changed[offset..offset + bytes].iter_mut().enumerate() {
                *byte = (wrong >> (8 * (bytes - 1 - i))) as u8;
            }
            let verdict = sni(&changed);
            // A last extension that is shorter leaves something that may read as another one; a
            // session id, a list of suites or of methods may end in what reads as the rest. None
            // of these changes the name.
            assert_ne!(verdict, Verdict::Pass, "{what} {wrong} instead of {right}");
            // Followed by more, what waited must not pass either.
            changed.extend_from_slice(&hello);
            assert_ne!(sni(&changed), Verdict::Pass, "{what} {wrong} instead of {right}, and more");
        }
    }
}

/// What a client of any TLS writes there ended with TLS 1.2 (RFC 8446 §4.1.2).
#[test]
fn a_hello_of_a_version_that_no_tls_has_is_not_tls() {
    let of = |version: [u8; 2]| {
        let mut hello = one_name(NAME.as_bytes());
        hello[9..11].copy_from_slice(&version);
        hello
    };
    for minor in 0..=4 {
        assert_eq!(sni(&of([3, minor])), Verdict::Pass, "3.{minor}");
    }
    // SSLv2, nothing that exists, a draft, DTLS.
    for version in
        [[0, 2], [2, 0], [2, 0xff], [3, 5], [3, 0xff], [4, 0], [0x7f, 0x1c], [0xfe, 0xfd], [0xff, 0xff]]
    {
        for check in [Check::Sni, Check::Tls] {
            assert!(is_not_tls(&judge(&of(version), check, &named(NAME))), "{version:?}");
        }
    }
}

#[test]
fn a_hello_shares_its_record_with_nothing() {
    let hello = CLIENT.hello();
    let message = &hello[5..];
    for behind in [b"\0".as_slice(), b"\x01\0\0\0", message] {
        let both = [message, behind].concat();
        let mut bytes = vec![HANDSHAKE, 3, 1];
        bytes.extend(u16::try_from(both.len()).unwrap().to_be_bytes());
        bytes.extend(both);
        assert!(is_not_tls(&sni(&bytes)));
    }
}

#[test]
fn encrypted_hellos_are_judged_by_their_outer_name() {
    let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = rustls::crypto::hpke::Hpke::generate_key_pair(suite).unwrap();
    let grease = with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key.clone())));
    assert!(grease.windows(2).any(|w| w == [0xfe, 0x0d]), "no ECH extension");
    assert_eq!(sni(&grease), Verdict::Pass, "every browser sends it");

    // RFC 9849 §4: version, then id, KEM, key, suites, longest name, public name, extensions.
    let mut contents = vec![1, 0, 0x20];
    contents.extend(vector(&key.0));
    contents.extend(vector(&[0, 1, 0, 1]));
    contents.push(64);
    contents.push(14);
    contents.extend(b"public.example");
    contents.extend([0, 0]);
    let configs = vector(&[&[0xfe, 0x0d], vector(&contents).as_slice()].concat());
    let config = EchConfig::new(EchConfigListBytes::from(configs), hpke::ALL_SUPPORTED_SUITES).unwrap();
    let real = with_ech(EchMode::Enable(config));
    assert_eq!(sni(&real), Verdict::SniMismatch(Some("public.example".into())), "fails closed");
    assert!(!real.windows(NAME.len()).any(|w| w == NAME.as_bytes()), "the name was to be hidden");
}

/// What rustls makes of these bytes: nothing yet, an error, or a hello with or without a name.
fn rustls_reads(bytes: &[u8]) -> Option<Result<Option<String>, rustls::Error>> {
    rustls_sees(bytes, |hello| hello.server_name().map(str::to_owned))
}

/// The same, of what `look` takes from the hello.
fn rustls_sees<T>(
    bytes: &[u8],
    look: impl Fn(rustls::server::ClientHello<'_>) -> T,
) -> Option<Result<T, rustls::Error>> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = Cursor::new(bytes);
    loop {
        let read = acceptor.read_tls(&mut rest).expect("from memory");
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Some(Ok(look(accepted.client_hello())));
            }
            Ok(None) if read == 0 => return None,
            Ok(None) => {}
            Err((error, _)) => return Some(Err(error)),
        }
    }
}

/// What is offered to this proxy itself is what the handshake that follows will read.
fn offers_agree_with_rustls(bytes: &[u8]) -> Result<(), TestCaseError> {
    let theirs = rustls_sees(bytes, |hello| {
        let protocols: Vec<_> = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
        (hello.cipher_suites().iter().map(|suite| u16::from(*suite)).collect::<Vec<_>>(), protocols)
    });
    if let (Some(Ok(theirs)), Ok(Some(ours))) = (theirs, Judge::default().offers(bytes)) {
        prop_assert_eq!((ours.suites, ours.protocols), theirs);
    }
    Ok(())
}

#[test]
fn what_clients_offer_is_read_however_it_comes() {
    for client in clients() {
        let hello = client.hello();
        let offers = Judge::default().offers(&hello).unwrap().unwrap();
        assert_eq!(offers.protocols, vec![vec![b'p'; 255]; client.protocols], "{client:?}");
        assert!(offers.suites.len() > 1, "{client:?}");
        offers_agree_with_rustls(&hello).unwrap();
        let (cut, mut pieces) = (records(&hello, &[700]), Judge::default());
        for end in 0..cut.len() {
            assert!(pieces.offers(&cut[..end]).unwrap().is_none(), "{client:?} at {end}");
        }
        assert_eq!(pieces.offers(&cut).unwrap().unwrap().suites, offers.suites, "{client:?}");
    }
    assert!(Judge::default().offers(b"CONNECT acme").is_err());
}

/// Where rustls sees a name, this guard sees the same or refuses; where rustls sees none, so does it.
fn agrees_with_rustls(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = name_of(bytes);
    if let Some(Ok(theirs)) = rustls_reads(bytes) {
        match (&ours, theirs) {
            (Verdict::SniMismatch(Some(ours)), Some(theirs)) => {
                prop_assert_eq!(
                    ours.trim_end_matches('.').to_lowercase(),
                    theirs.trim_end_matches('.').to_lowercase()
                );
            }
            // Stricter: rustls takes empty records and messages behind the hello, and skips what
            // follows a name of another type.
            (Verdict::NotTls(_), _) => {}
            (Verdict::SniMismatch(None), theirs) => {
                let address = Host::Ip([192, 0, 2, 1].into());
                let unnamed = judge(bytes, Check::Sni, &address) == Verdict::Pass;
                prop_assert!(!unnamed || theirs.is_none(), "unnamed to us, theirs {:?}", theirs);
            }
            (ours, theirs) => prop_assert!(false, "ours {:?}, theirs {:?}", ours, theirs),
        }
    }
    // However it is cut, the verdict is the same; in pieces too.
    let (mut pieces, nobody) = (Judge::default(), named(&"nobody.".repeat(100)));
    let mut first = Verdict::Incomplete;
    for cut in 0..=bytes.len() {
        first = name_of(&bytes[..cut]);
        prop_assert_eq!(&pieces.judge(&bytes[..cut], Check::Sni, &nobody), &first);
        if first != Verdict::Incomplete {
            break;
        }
    }
    prop_assert_eq!(std::mem::discriminant(&first), std::mem::discriminant(&ours));
    prop_assert!(ours != Verdict::Pass, "no hello names that host");
    Ok(())
}

fn any_client() -> impl Strategy<Value = Client> {
    let name = prop_oneof![Just(NAME), Just("a.b"), Just("xn--bcher-kva.example"), Just("192.0.2.1")];
    (name, any::<bool>(), any::<bool>(), any::<bool>(), 0..3_usize).prop_map(
        |(name, sni, post_quantum, only_tls12, protocols)| Client {
            name,
            sni,
            post_quantum,
            only_tls12,
            protocols,
        },
    )
}

fn any_extension() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let name = prop_oneof![
        Just(NAME.as_bytes().to_vec()),
        "[a-zA-Z0-9_.-]{0,20}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let list = proptest::collection::vec((0..2_u8, name), 0..3)
        .prop_map(|entries| vector(&entries.iter().flat_map(|(k, n)| entry(*k, n)).collect::<Vec<_>>()));
    prop_oneof![
        4 => list.prop_map(|data| (0, data)),
        // What rustls wants to see before it accepts anything: versions, algorithms, groups.
        1 => Just((13, vec![0, 2, 4, 3])),
        1 => (0..60_u16, proptest::collection::vec(any::<u8>(), 0..8)),
    ]
}

proptest! {
    #[test]
    fn any_records_pass(client in any_client(), sizes in proptest::collection::vec(1..2000_usize, 1..8)) {
        let hello = client.hello();
        let cut = records(&hello, &sizes);
        prop_assert_eq!(name_of(&cut), name_of(&hello));
        prop_assert!(cut.len() > MAX_HELLO || !is_not_tls(&name_of(&cut)));
        agrees_with_rustls(&cut)?;
        offers_agree_with_rustls(&cut)?;
    }

    #[test]
    fn a_changed_hello_reads_as_rustls_reads_it(
        client in any_client(),
        record in 1..3000_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3_u8), 0..4),
    ) {
        let mut bytes = records(&client.hello(), &[record]);
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        agrees_with_rustls(&bytes)?;
        offers_agree_with_rustls(&bytes)?;
    }

    #[test]
    fn made_hellos_read_as_rustls_reads_them(
        extensions in proptest::collection::vec(any_extension(), 0..5),
        record in 1..300_usize,
        change in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
    ) {
        let mut all = vec![(13, vec![0, 2, 4, 3]), (10, vec![0, 2, 0, 29]), (43, vec![4, 3, 4, 3, 3])];
        all.extend(extensions.into_iter().filter(|(kind, _)| ![10, 13, 43].contains(kind)));
        let mut bytes = Made::with(&all).hello();
        if let Some((at, byte)) = change {
            // Past the record's header, so that the records can be cut anew.
            let at = 9 + at.index(bytes.len() - 9);
            bytes[at] = byte;
        }
        agrees_with_rustls(&bytes)?;
        agrees_with_rustls(&records(&bytes, &[record]))?;
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        agrees_with_rustls(&bytes)?;
        agrees_with_rustls(&[b"\x16\x03\x01".as_slice(), &bytes].concat())?;
        agrees_with_rustls(&wrapped(&bytes))?;
    }
}

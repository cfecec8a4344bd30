//! Headers as balancers send them, and whatever else may come in their place.

use proptest::prelude::*;

use super::*;

fn client(source: &str, destination: &str) -> Speaker {
    Speaker::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A header of version 2; the checksum, where asked for, is made as section 2.2.3 says.
fn header(command: u8, family: u8, block: &[u8], fields: &[(u8, &[u8])], checksum: bool) -> Vec<u8> {
    let mut rest = block.to_vec();
    let mut field = |kind: u8, value: &[u8]| {
        rest.push(kind);
        rest.extend_from_slice(&(value.len() as u16).to_be_bytes());
        rest.extend_from_slice(value);
    };
    fields.iter().for_each(|(kind, value)| field(*kind, value));
    if checksum {
        field(CRC32C, &[0; 4]);
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[0x20 | command, family]);
    header.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    header.extend_from_slice(&rest);
    if checksum {
        let crc = crc32c(header.iter().copied());
        let at = header.len() - 4;
        header[at..].copy_from_slice(&crc.to_be_bytes());
    }
    header
}

const FOUR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 0x0c, 0x38];

fn six() -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&octets("2001:db8::7")[..], &octets("2001:db8::1"), &[0xdc, 4, 0x0c, 0x38]].concat()
}

#[test]
fn the_checksum_is_the_one_of_the_rfc() {
    // RFC 9260's predecessors, RFC 3720 appendix B.4: 32 bytes of zeros, of ones, and the check value.
    assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
    assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
}

#[test]
fn lines() {
    for (text, speaker) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 3128\r\n", client("192.0.2.7:56324", "198.51.100.1:3128")),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n", client("[2001:db8::7]:0", "[2001:db8::1]:65535")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", client("192.0.2.7:1", "[::1]:2")),
        ("PROXY UNKNOWN\r\n", Speaker::Balancer),
        ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Speaker::Balancer),
    ] {
        assert_eq!(read(text.as_bytes()), Ok(Header::Whole(speaker, text.len())), "{text:?}");
        // The request behind it isn't its part.
        let more = format!("{text}CONNECT a:443 HTTP/1.1\r\n\r\n");
        assert_eq!(read(more.as_bytes()), Ok(Header::Whole(speaker, text.len())), "{more:?}");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
    assert_eq!(read(longest.as_bytes()), Ok(Header::Whole(Speaker::Balancer, LONGEST_LINE)));
}

#[test]
fn lines_that_are_none() {
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 15));
    for (text, fault) in [
        ("GET / HTTP/1.1\r\n", Fault::Missing),
        ("proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n", Fault::Missing),
        ("PROXYTCP4", Fault::Missing),
        ("\x16\x03\x01", Fault::Missing),
        ("PROXY \r\n", Fault::Line),
        ("PROXY TCP4\r\n", Fault::Line),
        ("PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", Fault::Line),
        ("PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n", Fault::Line),
        ("PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", Fault::Line),
        ("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", Fault::Line),
        ("PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n", Fault::Line),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n", Fault::Line),
        ("PROXY UNKNOWNX\r\n", Fault::Line),
        (&longer, Fault::LongLine),
    ] {
        assert_eq!(read(text.as_bytes()), Err(fault), "{text:?}");
    }
    // A line that never ends is given up where no line can go on.
    assert_eq!(read(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()), Err(Fault::LongLine));
    assert_eq!(read(b"PROXY TCP4 \xff\xfe\r\n"), Err(Fault::Line));
}

#[test]
fn headers_with_fields_and_without() {
    let authority: (u8, &[u8]) = (2, b"proxy.corp.example");
    let of_aws: (u8, &[u8]) = (0xea, b"\x01vpce-08d2bf15fac5001c9");
    for (header, speaker) in [
        (header(1, 0x11, &FOUR, &[], false), client("192.0.2.7:56324", "198.51.100.1:3128")),
        (header(1, 0x11, &FOUR, &[authority, of_aws], true), client("192.0.2.7:56324", "198.51.100.1:3128")),
        (header(1, 0x21, &six(), &[(0xff, b"")], true), client("[2001:db8::7]:56324", "[2001:db8::1]:3128")),
        (header(1, 0x11, &FOUR, &[(4, &[0; 4000])], true), client("192.0.2.7:56324", "198.51.100.1:3128")),
        (header(1, 0, b"", &[authority], false), Speaker::Balancer),
        (header(0, 0, b"", &[], false), Speaker::Balancer),
        (header(0, 0x11, &FOUR, &[], true), Speaker::Balancer),
        // What LOCAL carries says nothing.
        (header(0, 0x77, b"anything", &[], false), Speaker::Balancer),
        (header(0, 0x11, b"short", &[], false), Speaker::Balancer),
        (header(0, 0, b"\x01\xff\xff", &[], false), Speaker::Balancer),
    ] {
        assert_eq!(read(&header), Ok(Header::Whole(speaker, header.len())), "{header:02x?}");
        let more = [&header[..], b"\x16\x03\x01"].concat();
        assert_eq!(read(&more), Ok(Header::Whole(speaker, header.len())), "{more:02x?}");
    }
}

#[test]
fn headers_that_are_none() {
    let mut wrong = header(1, 0x11, &FOUR, &[], true);
    // Another client than the one that was summed.
    wrong[FIXED] ^= 1;
    let mut local = header(0, 0, b"", &[(4, b"x")], true);
    local[19] ^= 1;
    let mut first = header(1, 0x11, &FOUR, &[], false);
    first[12] = 0x11;
    let large = header(1, 0x11, &FOUR, &[(4, &vec![0; LONGEST])], false);
    for (header, fault) in [
        (wrong, Fault::Checksum),
        (local, Fault::Checksum),
        (header(1, 0x11, &FOUR, &[(CRC32C, b"\0\0\0")], false), Fault::Checksum),
        (header(1, 0x11, &FOUR, &[(CRC32C, b"")], false), Fault::Checksum),
        (first, Fault::Version),
        (header(2, 0x11, &FOUR, &[], false), Fault::Version),
        (header(1, 0x12, &FOUR, &[], false), Fault::Family),
        (header(1, 0x31, &[0; 216], &[], false), Fault::Family),
        (header(1, 0x41, &FOUR, &[], false), Fault::Family),
        (header(1, 0x11, &FOUR[..11], &[], false), Fault::Short),
        (header(1, 0x21, &FOUR, &[], false), Fault::Short),
        (header(1, 0x11, b"", &[], false), Fault::Short),
        (header(1, 0x11, &[&FOUR[..], b"\x04"].concat(), &[], false), Fault::CutOff),
        (header(1, 0x11, &[&FOUR[..], b"\x04\0\x02x"].concat(), &[], false), Fault::CutOff),
        // Said by the length alone: nobody waits for so much.
        (large[..FIXED].to_vec(), Fault::TooLong),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Fault::Missing),
    ] {
        assert_eq!(read(&header), Err(fault), "{header:02x?}");
    }
    let most = LONGEST - FIXED - FOUR.len() - 3;
    let header = header(1, 0x11, &FOUR, &[(4, &vec![0; most])], false);
    assert_eq!((header.len(), read(&header).is_ok()), (LONGEST, true));
}

/// Takes no more than is asked for, in pieces of at most `step` bytes, as from a socket. What was taken
/// when the verdict came, and the verdict.
fn taken(bytes: &[u8], step: usize) -> (usize, Option<Result<Header, Fault>>) {
    let mut have = 0;
    loop {
        match read(&bytes[..have]) {
            Ok(Header::Wants(more)) if have == bytes.len() => {
                assert!(more > 0);
                return (have, None);
            }
            Ok(Header::Wants(more)) => have = bytes.len().min(have + more.min(step)),
            verdict => return (have, Some(verdict)),
        }
    }
}

fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let line = (any::<(Ipv4Addr, Ipv4Addr, u16, u16)>())
        .prop_map(|(from, to, one, two)| format!("PROXY TCP4 {from} {to} {one} {two}\r\n").into_bytes());
    let long_line = (any::<(Ipv6Addr, Ipv6Addr, u16, u16)>())
        .prop_map(|(from, to, one, two)| format!("PROXY TCP6 {from} {to} {one} {two}\r\n").into_bytes());
    let fields = proptest::collection::vec((4_u8.., proptest::collection::vec(any::<u8>(), 0..40)), 0..4);
    let binary = (0_u8..2, prop_oneof![Just((0x11_u8, 12_usize)), Just((0x21, 36))], fields, any::<bool>())
        .prop_flat_map(|(command, (family, length), fields, checksum)| {
            proptest::collection::vec(any::<u8>(), length).prop_map(move |block| {
                let fields: Vec<_> = fields.iter().map(|(kind, value)| (*kind, &value[..])).collect();
                header(command, family, &block, &fields, checksum)
            })
        });
    prop_oneof![line, long_line, binary]
}

proptest! {
    /// However its bytes come, exactly the header is taken: what follows is TLS or a request.
    #[test]
    fn exactly_the_header_is_taken(header in any_header(), behind in proptest::collection::vec(any::<u8>(), 0..20), step in 1_usize..60) {
        let all = [&header[..], &behind].concat();
        let (have, verdict) = taken(&all, step);
        prop_assert_eq!(have, header.len());
        prop_assert_eq!(verdict, Some(read(&header)));
        prop_assert!(matches!(verdict, Some(Ok(Header::Whole(_, length))) if length == header.len()));
        // One bit turned in what the checksum covers is noticed.
        let at = FIXED + usize::from(header[0]) % 12;
        if header.starts_with(&SIGNATURE) && header.get(header.len() - 7..header.len() - 4) == Some(&[CRC32C, 0, 4]) {
            let mut turned = header.clone();
            turned[at] ^= 4;
            prop_assert_eq!(read(&turned), Err(Fault::Checksum));
        }
    }
}

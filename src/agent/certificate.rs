//! What a certificate says of its issuer, fit for a terminal, and the product that this issuer is known
//! for. Pure.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::egress::printable;

/// Longest distinguished name that is shown, in characters.
const LONGEST: usize = 200;

/// What an administrator needs to find the device that presents a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The distinguished name of its issuer, in one printable line.
    pub issuer: String,
    /// The subject, likewise.
    pub subject: String,
    /// SHA-256 of the whole certificate, in pairs of hexadecimal digits with colons.
    pub fingerprint: String,
    /// The product that its issuer is known for.
    pub product: Option<&'static str>,
}

impl Shown {
    /// Reads a certificate; says so where one can't be read.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let mut fingerprint = String::new();
        for byte in digest(&SHA256, certificate).as_ref() {
            let colon = if fingerprint.is_empty() { "" } else { ":" };
            let _ = write!(fingerprint, "{colon}{byte:02X}");
        }
        let (issuer, subject) = match X509Certificate::from_der(certificate) {
            Ok((_, read)) => (read.issuer().to_string(), read.subject().to_string()),
            Err(_) => ("unreadable".to_owned(), "unreadable".to_owned()),
        };
        let product = product(&issuer);
        let shown = |name: &str| match printable(name, LONGEST) {
            empty if empty.is_empty() => "(empty)".to_owned(),
            name => name,
        };
        Self { issuer: shown(&issuer), subject: shown(&subject), fingerprint, product }
    }
}

/// Words in an issuer's name, in lower case, and the product that puts them there. Customers may use an
/// authority of their own, so that the lack of a match proves nothing.
const PRODUCTS: &[(&str, &str)] = &[
    ("zscaler", "Zscaler Internet Access"),
    ("netskope", "Netskope"),
    ("goskope", "Netskope"),
    ("palo alto", "Palo Alto Networks firewall"),
    ("paloalto", "Palo Alto Networks firewall"),
    ("globalprotect", "Palo Alto Networks GlobalProtect"),
    ("prisma access", "Palo Alto Networks Prisma Access"),
    ("fortinet", "Fortinet FortiGate"),
    ("fortigate", "Fortinet FortiGate"),
    ("fortiguard", "Fortinet FortiGate"),
    ("umbrella", "Cisco Umbrella"),
    ("opendns", "Cisco Umbrella"),
    ("meraki", "Cisco Meraki"),
    ("cisco", "Cisco Secure Firewall or Web Appliance"),
    ("sophos", "Sophos Firewall"),
    ("check point", "Check Point firewall"),
    ("checkpoint", "Check Point firewall"),
    ("blue coat", "Symantec (Blue Coat) ProxySG"),
    ("bluecoat", "Symantec (Blue Coat) ProxySG"),
    ("skyhigh", "Skyhigh (McAfee) Web Gateway"),
    ("mcafee", "Skyhigh (McAfee) Web Gateway"),
    ("forcepoint", "Forcepoint"),
    ("websense", "Forcepoint"),
    ("barracuda", "Barracuda"),
    ("sonicwall", "SonicWall"),
    ("watchguard", "WatchGuard Firebox"),
    ("untangle", "Untangle (Arista) firewall"),
    ("aruba", "HPE Aruba"),
    ("huawei", "Huawei firewall"),
    ("sangfor", "Sangfor firewall"),
    ("hillstone", "Hillstone firewall"),
    ("stormshield", "Stormshield firewall"),
    ("unifi", "Ubiquiti UniFi"),
    ("ubiquiti", "Ubiquiti UniFi"),
    ("juniper", "Juniper SRX"),
    ("iboss", "iboss"),
    ("smoothwall", "Smoothwall"),
    ("securly", "Securly"),
    ("contentkeeper", "ContentKeeper"),
    ("cato networks", "Cato Networks"),
    ("menlo security", "Menlo Security"),
    ("cloudflare", "Cloudflare Gateway"),
    ("trend micro", "Trend Micro"),
    ("kaspersky", "Kaspersky on this machine"),
    ("bitdefender", "Bitdefender on this machine"),
    ("eset ssl", "ESET on this machine"),
    ("avast", "Avast on this machine"),
    ("adguard", "AdGuard on this machine"),
    ("pfsense", "pfSense"),
    ("opnsense", "OPNsense"),
    ("squid", "Squid with SslBump"),
    ("mitmproxy", "mitmproxy"),
    ("portswigger", "Burp Suite"),
    ("fiddler", "Fiddler"),
    ("charles proxy", "Charles"),
];

/// The product that an issuer's name points to.
fn product(issuer: &str) -> Option<&'static str> {
    let issuer = issuer.to_lowercase();
    PRODUCTS.iter().find(|(word, _)| issuer.contains(word)).map(|(_, product)| *product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_name_products() {
        for (issuer, expected) in [
            (
                "C=US, ST=California, O=Zscaler Inc., CN=Zscaler Intermediate Root CA (zscalertwo.net)",
                "Zscaler",
            ),
            ("O=Cisco, CN=Cisco Umbrella Secondary SubCA fra-SG", "Umbrella"),
            ("CN=FortiGate CA, O=Fortinet", "Fortinet"),
            ("CN=Acme Palo Alto Forward Trust", "Palo Alto"),
        ] {
            assert!(product(issuer).is_some_and(|found| found.contains(expected)), "{issuer}");
        }
        for issuer in ["C=US, O=Amazon, CN=Amazon RSA 2048 M01", "CN=Acme Corporate Root", ""] {
            assert_eq!(product(issuer), None, "{issuer}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_shown_as_such() {
        let shown = Shown::of(b"\x1b[31m");
        assert_eq!((shown.issuer.as_str(), shown.fingerprint.len()), ("unreadable", 95));
    }
}

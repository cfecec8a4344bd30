//! The part of the PAC file that is the same everywhere: functions in JavaScript no newer than ES3.
//!
//! Engines pass a host in different forms: capitals, a trailing dot, an IPv6 address with or without
//! brackets, an IPv4 address in IPv6 notation. The script brings it into one form before it looks it up.

/// Names and addresses against the tables above.
pub(super) const LOOKUP: &str = r#"
function isIn(host, hosts, below, before) {
  var at, end, list, i;
  if (hosts["." + host] === 1) {
    return true;
  }
  for (at = host.length; at > 0; at = host.lastIndexOf(".", at - 1)) {
    end = host.substring(at);
    if (below[end] === 1) {
      return true;
    }
    list = before[end];
    for (i = 0; list && i < list.length; i++) {
      if (list[i].test(host.substring(0, at))) {
        return true;
      }
    }
  }
  return false;
}

var OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
var OCTETS = new RegExp("^" + [OCTET, OCTET, OCTET, OCTET].join("[.]") + "$");

// The 16-bit groups of an address, two or eight; null for a name.
function groupsOf(host) {
  var four = OCTETS.exec(host), at, halves, all, rest, i;
  if (four) {
    return [four[1] * 256 + four[2] * 1, four[3] * 256 + four[4] * 1];
  }
  host = host.split("%")[0];
  at = host.lastIndexOf(":");
  if (at < 0) {
    return null;
  }
  four = groupsOf(host.substring(at + 1));
  if (four) {
    host = host.substring(0, at + 1) + four[0].toString(16) + ":" + four[1].toString(16);
  }
  halves = host.split("::");
  all = halves[0] ? halves[0].split(":") : [];
  rest = halves[1] ? halves[1].split(":") : [];
  i = all.length + rest.length;
  if (halves.length > 2 || (halves.length === 2 ? i > 7 : i !== 8)) {
    return null;
  }
  for (; i < 8; i++) {
    all[all.length] = "0";
  }
  all = all.concat(rest);
  for (i = 0; i < 8; i++) {
    if (!/^[0-9a-f]{1,4}$/.test(all[i])) {
      return null;
    }
    all[i] = parseInt(all[i], 16);
  }
  return all.slice(0, 6).join() === "0,0,0,0,0,65535" ? all.slice(6) : all;
}

function isWithin(groups, network) {
  var bits = network[0], i;
  if (groups.length !== network.length - 1) {
    return false;
  }
  for (i = 0; bits > 0; i++, bits -= 16) {
    if ((groups[i] ^ network[i + 1]) >> (bits < 16 ? 16 - bits : 0)) {
      return false;
    }
  }
  return true;
}

function isDirect(host) {
  var groups = groupsOf(host), i;
  for (i = 0; groups && i < DIRECT_NETWORKS.length; i++) {
    if (isWithin(groups, DIRECT_NETWORKS[i])) {
      return true;
    }
  }
  if (groups) {
    return false;
  }
  // Without a dot, and not a number that stands for an address.
  if (DIRECT_PLAIN && /^[^.:]+$/.test(host) && !/^(0x[0-9a-f]*|[0-9]+)$/.test(host)) {
    return true;
  }
  return isIn(host, DIRECT_HOSTS, DIRECT_BELOW, DIRECT_BEFORE);
}
"#;

/// The same proxies for every host.
pub(super) const ONE_LANE: &str = r"
function proxiesFor(host) {
  return LISTED;
}
";

/// For each row of `LISTED` the host's own port first. Names that differ in their number alone, as
/// shards do, take turns, so that few of them are spread evenly, too; others are told apart by a
/// sum modulo a prime.
pub(super) const LANES: &str = r#"
function proxiesFor(host) {
  var number = /[0-9]{1,6}/.exec(host), lane = 0, all = [], row, i, j;
  if (number) {
    host = host.replace(number[0], "");
  }
  for (i = 0; i < host.length; i++) {
    lane = (lane * 31 + host.charCodeAt(i)) % 65521;
  }
  lane += number ? parseInt(number[0], 10) : 0;
  for (i = 0; i < LISTED.length; i++) {
    row = LISTED[i];
    for (j = 0; j < row.length; j++) {
      all[all.length] = row[(lane + j) % row.length];
    }
  }
  return all.join("; ");
}
"#;

/// What engines call.
pub(super) const FIND: &str = r#"
function FindProxyForURL(url, host) {
  host = String(host).toLowerCase();
  if (host.charAt(0) === "[" && host.charAt(host.length - 1) === "]") {
    host = host.substring(1, host.length - 1);
  }
  if (host.charAt(host.length - 1) === ".") {
    host = host.substring(0, host.length - 1);
  }
  // No name is longer than 253 characters.
  if (host.length > 253) {
    return OTHERWISE;
  }
  if (isDirect(host)) {
    return "DIRECT";
  }
  return isIn(host, HOSTS, BELOW, BEFORE) ? proxiesFor(host) : OTHERWISE;
}
"#;

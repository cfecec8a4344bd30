// The functions that browsers add to a PAC file, by their descriptions.
function isPlainHostName(host) {
  return String(host).indexOf(".") < 0;
}
function dnsDomainIs(host, domain) {
  host = String(host).toLowerCase();
  domain = String(domain).toLowerCase();
  return host.length >= domain.length && host.substring(host.length - domain.length) === domain;
}
function localHostOrDomainIs(host, hostdom) {
  host = String(host).toLowerCase();
  hostdom = String(hostdom).toLowerCase();
  return host === hostdom || (host.indexOf(".") < 0 && hostdom.substring(0, host.length + 1) === host + ".");
}
function dnsDomainLevels(host) {
  return String(host).split(".").length - 1;
}
function shExpMatch(text, expression) {
  var pattern = String(expression).replace(/[\\^$.+()|{}\[\]]/g, "\\$&").replace(/\*/g, "[\\s\\S]*").replace(/\?/g, "[\\s\\S]");
  return new RegExp("^" + pattern + "$").test(String(text));
}
function convert_addr(address) {
  var four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(String(address)), value = 0, i;
  if (!four) {
    return null;
  }
  for (i = 1; i <= 4; i++) {
    if (four[i] > 255) {
      return null;
    }
    value = value * 256 + Number(four[i]);
  }
  return value;
}
function dnsResolveEx(host) {
  return convert_addr(host) !== null || String(host).indexOf(":") >= 0 ? String(host) : ccpgateAddresses(String(host));
}
function dnsResolve(host) {
  var all = dnsResolveEx(host).split(";"), i;
  for (i = 0; i < all.length; i++) {
    if (convert_addr(all[i]) !== null) {
      return all[i];
    }
  }
  return null;
}
function isResolvable(host) {
  return dnsResolve(host) !== null;
}
function isResolvableEx(host) {
  return dnsResolveEx(host) !== "";
}
function isInNet(host, pattern, mask) {
  var address = convert_addr(dnsResolve(host)), network = convert_addr(pattern), bits = convert_addr(mask);
  if (address === null || network === null || bits === null) {
    return false;
  }
  return (address & bits) === (network & bits);
}
// The bits of an address, most significant first; null for anything else.
function ccpgateBits(address) {
  var four = convert_addr(address), halves, all, rest, bits = "", i;
  if (four !== null) {
    return ("00000000000000000000000000000000" + four.toString(2)).slice(-32);
  }
  if (!/^[0-9a-f:]+$/i.test(address) || address.indexOf(":") < 0) {
    return null;
  }
  halves = address.split("::");
  all = halves[0] ? halves[0].split(":") : [];
  rest = halves[1] ? halves[1].split(":") : [];
  while (halves.length === 2 && all.length + rest.length < 8) {
    all.push("0");
  }
  all = all.concat(rest);
  if (halves.length > 2 || all.length !== 8) {
    return null;
  }
  for (i = 0; i < 8; i++) {
    bits += ("0000000000000000" + parseInt(all[i], 16).toString(2)).slice(-16);
  }
  return bits;
}
function isInNetEx(host, prefix) {
  var parts = String(prefix).split("/"), network = ccpgateBits(parts[0]), all = dnsResolveEx(host).split(";"), i, bits;
  for (i = 0; network !== null && i < all.length; i++) {
    bits = ccpgateBits(all[i]);
    if (bits !== null && bits.length === network.length && bits.substring(0, parts[1]) === network.substring(0, parts[1])) {
      return true;
    }
  }
  return false;
}
function myIpAddressEx() {
  return ccpgateOwn;
}
function myIpAddress() {
  var all = ccpgateOwn.split(";"), i;
  for (i = 0; i < all.length; i++) {
    if (convert_addr(all[i]) !== null) {
      return all[i];
    }
  }
  return all[0] || "127.0.0.1";
}
function sortIpAddressList(list) {
  return String(list).split(";").sort().join(";");
}
function getClientVersion() {
  return "1.0";
}
function alert() {}
// The last argument may say that the time is in GMT.
function ccpgateNow(args) {
  var gmt = args.length > 0 && args[args.length - 1] === "GMT", now = new Date(), part = gmt ? "getUTC" : "get";
  return {
    args: gmt ? args.slice(0, -1) : args,
    day: now[part + "Day"](), date: now[part + "Date"](), month: now[part + "Month"](), year: now[part + "FullYear"](),
    seconds: now[part + "Hours"]() * 3600 + now[part + "Minutes"]() * 60 + now[part + "Seconds"]()
  };
}
// From one to the other, also over the end of the week, the year or the day.
function ccpgateWithin(from, at, to) {
  return from <= to ? from <= at && at <= to : at >= from || at <= to;
}
function weekdayRange() {
  var days = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], now = ccpgateNow([].slice.call(arguments));
  var from = days.indexOf(now.args[0]), to = now.args.length > 1 ? days.indexOf(now.args[1]) : from;
  return from >= 0 && to >= 0 && ccpgateWithin(from, now.day, to);
}
function dateRange() {
  var months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
  var now = ccpgateNow([].slice.call(arguments));
  function read(list) {
    var found = { weight: 0, at: 0, has: {} }, i, month;
    for (i = 0; i < list.length; i++) {
      month = months.indexOf(list[i]);
      if (month >= 0) {
        found.has.month = true;
        found.weight += month * 32;
        found.at += now.month * 32;
      } else if (list[i] > 31) {
        found.has.year = true;
        found.weight += list[i] * 512;
        found.at += now.year * 512;
      } else {
        found.weight += Number(list[i]);
        found.at += now.date;
      }
    }
    return found;
  }
  var half = now.args.length > 1 ? now.args.length / 2 : 1;
  var from = read(now.args.slice(0, half)), to = now.args.length > 1 ? read(now.args.slice(half)) : from;
  if (now.args.length === 2 && from.at !== to.at) {
    // One day: its date and its month.
    from = to = read(now.args);
  }
  return from.has.year ? from.weight <= from.at && from.at <= to.weight : ccpgateWithin(from.weight, from.at, to.weight);
}
function timeRange() {
  var now = ccpgateNow([].slice.call(arguments)), a = now.args;
  function seconds(list) {
    return (list[0] || 0) * 3600 + (list[1] || 0) * 60 + Number(list[2] || 0);
  }
  if (a.length === 1) {
    return ccpgateWithin(a[0] * 3600, now.seconds, a[0] * 3600 + 3599);
  }
  var half = a.length / 2;
  return ccpgateWithin(seconds(a.slice(0, half)), now.seconds, seconds(a.slice(half)));
}

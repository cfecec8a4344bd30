//! A PAC file that answers the same for every host: the shortest there are, read without an engine for
//! JavaScript.

/// What a file answers whatever it is asked; none where it isn't a single function that does nothing but
/// return a string.
#[must_use]
pub fn constant(text: &str) -> Option<String> {
    let text = uncommented(text.trim_start_matches('\u{feff}'))?;
    let text = word(&text, "function").and_then(|rest| word(rest, "FindProxyForURL"))?;
    let (parameters, text) = text.trim_start().strip_prefix('(')?.split_once(')')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | ',') || c.is_whitespace();
    if !parameters.chars().all(plain) {
        return None;
    }
    // A string at the next line is none that is returned.
    let text = word(text.trim_start().strip_prefix('{')?, "return")?.trim_start_matches([' ', '\t']);
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (answer, text) = text[1..].split_once(quote)?;
    let text = text.trim_start();
    let text = text.strip_prefix(';').unwrap_or(text).trim_start().strip_prefix('}')?.trim();
    let ends = text.is_empty() || text == ";";
    // What is escaped, and a string that ends at another line, is left to an engine.
    (ends && !answer.contains(['\\', '\n', '\r'])).then(|| answer.to_owned())
}

/// The text behind a word, if it begins with it.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.trim_start().strip_prefix(word)?;
    let goes_on = rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$'));
    (!goes_on).then_some(rest)
}

/// The text with a blank for each comment outside a string; none where one has no end.
fn uncommented(text: &str) -> Option<String> {
    let (mut kept, mut rest, mut within) = (String::new(), text, None);
    while let Some(character) = rest.chars().next() {
        if within.is_none() && rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        if within.is_none() && rest.starts_with("/*") {
            rest = rest[2..].split_once("*/")?.1;
            kept.push(' ');
            continue;
        }
        within = match within {
            None => Some(character).filter(|c| matches!(c, '"' | '\'')),
            Some(quote) => Some(quote).filter(|quote| *quote != character),
        };
        kept.push(character);
        rest = &rest[character.len_utf8()..];
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::constant;

    #[test]
    fn a_file_that_always_answers_the_same_is_read() {
        for (text, answer) in [
            ("function FindProxyForURL(url, host) { return \"DIRECT\"; }", "DIRECT"),
            ("function FindProxyForURL(url,host){return 'DIRECT'}", "DIRECT"),
            (
                "\u{feff}// ours\r\nfunction FindProxyForURL (u, h)\r\n{\r\n\treturn \"PROXY p:3128; DIRECT\";\r\n}\r\n",
                "PROXY p:3128; DIRECT",
            ),
            (
                "/* { */ function FindProxyForURL(url, host /*, x */) { return 'PROXY //p:1' ; };\n// end",
                "PROXY //p:1",
            ),
        ] {
            assert_eq!(constant(text).as_deref(), Some(answer), "{text}");
        }
    }

    #[test]
    fn a_file_that_may_answer_otherwise_is_not() {
        for text in [
            "",
            "DIRECT",
            "function FindProxyForURL(url, host) { return \"DIRECT\"",
            "function FindProxyForURL(url, host) { return; }",
            "function FindProxyForURL(url, host) { return\n'DIRECT'; }",
            "function FindProxyForURL(url, host) { return answer; }",
            "function FindProxyForURL(url, host) { return \"DIRECT\" + more; }",
            "function FindProxyForURL(url, host) { if (host == 'a') return 'PROXY p:1'; return 'DIRECT'; }",
            "function FindProxyForURL(url, host) { return 'DIRECT'; } FindProxyForURL = other;",
            "function FindProxyForURLEx(url, host) { return 'DIRECT'; }",
            "function FindProxyForURL(url, host = go()) { return 'DIRECT'; }",
            "function FindProxyForURL(url, host) { return 'DIR\\x45CT'; }",
            "function FindProxyForURL(url, host) { return 'DIRECT\n'; }",
            "function FindProxyForURL(url, host) { return\u{e9} 'DIRECT'; }",
            "function FindProxyForURL(url, host) { return 'DIRECT'; /* }",
            "function FindProxyForURL(url, host) { return '\u{1F600}",
        ] {
            assert_eq!(constant(text), None, "{text}");
        }
    }
}

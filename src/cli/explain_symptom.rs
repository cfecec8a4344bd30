//! `ccpgate explain --symptom TEXT`. Needs no configuration.

use super::{Failure, say};
use crate::explain::symptom::{self, LONGEST};

/// Answers; nothing that is known makes the answer negative.
pub fn run(text: &str, json: bool) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::Usage(
            "--symptom is empty; give what the panel or its log says, as in --symptom 'No ICE candidate'"
                .to_owned(),
        ));
    }
    let answer = symptom::explain(text);
    if answer.cut {
        eprintln!("ccpgate: warning: the text is long; its first {LONGEST} characters were compared");
    }
    if json {
        let json = serde_json::to_string_pretty(&answer);
        say(&json.map_err(|e| Failure::Usage(e.to_string()))?)?;
    } else {
        say(&answer.to_string())?;
    }
    if answer.matches.is_empty() { Err(Failure::Negative) } else { Ok(()) }
}

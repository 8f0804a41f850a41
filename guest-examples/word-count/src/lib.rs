//! How often each word comes in ten seconds.

use pelton::prelude::*;

/// Something said.
#[derive(Record)]
struct Line {
    time: Timestamp,
    text: String,
}

/// A word, once.
#[derive(Record)]
struct Word {
    word: String,
}

/// How often a word came from `start` on, for ten seconds.
#[derive(Record)]
struct Count {
    start: Timestamp,
    word: String,
    count: i64,
}

/// Counts the words of `input`. Lines may be five seconds out of order.
#[pelton::job]
pub fn word_count(job: &mut Job, params: &Params) -> Result<()> {
    let output = match params.get("output") {
        None | Some("print") => print().option("format", "json"),
        Some(folder) => files::csv_sink(folder),
    };
    job.source::<Line>("lines", files::json(params.require("input")?))
        .assign_timestamps_by(bounded(seconds(5)), Line::TIME)
        .flat_map("split", |line: LineRef<'_>, out: &mut Out<Word>| {
            words(line.text, |word| out.emit(WordRef { word }));
        })
        .key_by(Word::WORD)
        .window(tumbling(seconds(10)))
        .columns::<Count>("count", |w| {
            w.start(Count::START);
            w.key(Count::WORD);
            w.count(Count::COUNT);
        })
        .sink("result", output);
    Ok(())
}

/// The words of a text, in lower case.
fn words(text: &str, mut each: impl FnMut(&str)) {
    for word in text
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|w| !w.is_empty())
    {
        if word.chars().any(char::is_uppercase) {
            each(&word.to_lowercase())
        } else {
            each(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut found = Vec::new();
        words(text, |w| found.push(w.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn words_are_split_and_lowered() {
        check(
            "To be, or not to be: that's it.",
            &["to", "be", "or", "not", "to", "be", "that's", "it"],
        );
        check("Über-Größe 42", &["über", "größe", "42"]);
        check(" -- ", &[]);
    }
}

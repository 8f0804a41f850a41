//! Counts the words of text files.

use pelton::prelude::*;

/// A line of the input.
#[derive(Record)]
struct Line {
    text: String,
}

/// A word, once.
#[derive(Record, Debug, PartialEq)]
struct Word {
    word: String,
}

/// How often a word came.
#[derive(Record)]
struct Count {
    word: String,
    count: i64,
}

/// Counts the words of `input`: a file, a folder or a glob.
#[pelton::job]
pub fn {{crate_name}}(job: &mut Job, params: &Params) -> Result<()> {
    let lines = job.source::<Line>("lines", files::lines(params.require("input")?));
    split(lines)
        .key_by(Word::WORD)
        .window(tumbling(days(1)))
        .columns::<Count>("count", |w| {
            w.key(Count::WORD).count(Count::COUNT);
        })
        .sink("result", print().option("format", "json"));
    Ok(())
}

/// The words of lines.
fn split(lines: Stream<Line>) -> Stream<Word> {
    lines
        // Plain lines have no time of their own. All get the same, so that one window holds the whole input and tells
        // its counts at the end. If your lines have a time, read it here.
        .assign_timestamps(monotonous(), |_| Timestamp(0))
        .flat_map("split", |line: LineRef, out: &mut Out<Word>| {
            for word in line.text.split_whitespace() {
                out.emit(WordRef { word });
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::Harness;

    #[test]
    fn lines_are_split_at_spaces() {
        let mut harness = Harness::new(split);
        harness.push(LineRef { text: "to be  or" });
        harness.push(LineRef { text: "" });
        let words: Vec<String> = harness.take().into_iter().map(|w| w.word).collect();
        assert_eq!(words, ["to", "be", "or"]);
    }
}

//! Components for tests, written by hand: a core module in text whose exports trap unless a test gives them a body.
//!
//! Memory: a test's data below 64 KiB, then what the host passes; the latter is taken back after each call.
//! Answers lie where the canonical ABI of `wit/function.wit` wants them; the helpers below write them.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where an answer is written.
const ANSWER: u32 = 256;
/// (export, its core parameters)
const EXPORTS: [(&str, &str); 9] = [
    ("graph@0.1.0#describe", "i32 i32"),
    ("function@0.1.0#open", "i32 i32 i32 i32 i32 i32 i64 i32"),
    ("function@0.1.0#prepare", "i32 i32 i32 i32 i32"),
    (
        "function@0.1.0#transform",
        "i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32",
    ),
    ("function@0.1.0#process", "i32"),
    (
        "function@0.1.0#on-timers",
        "i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32",
    ),
    ("function@0.1.0#accumulate", "i32"),
    (
        "function@0.1.0#merge",
        "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32",
    ),
    ("function@0.1.0#results", "i32"),
];

/// A component under construction.
#[derive(Default)]
pub(crate) struct Guest {
    bodies: Vec<(&'static str, String)>,
    imports: String,
    items: String,
}

impl Guest {
    /// One that opens with the digest 7 and prepares segments, but traps for the rest.
    pub(crate) fn new() -> Self {
        Self::default()
            .body("open", format!("{} {}", ok(), store64(8, "i64.const 7")))
            .body("prepare", format!("{} {}", ok(), store(4, "i32.const 0")))
    }

    /// Gives an export its body, which ends without a value; the answer is at [`store`]'s address.
    pub(crate) fn body(mut self, export: &'static str, body: impl Into<String>) -> Self {
        self.bodies.retain(|(name, _)| *name != export);
        self.bodies.push((export, body.into()));
        self
    }

    /// Imports a function of the contract, as `(import ..)`.
    pub(crate) fn import(mut self, import: &str) -> Self {
        self.imports.push_str(import);
        self
    }

    /// Adds data segments, functions, globals.
    pub(crate) fn item(mut self, item: &str) -> Self {
        self.items.push_str(item);
        self
    }

    /// The component's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("the test's module is valid");
        let mut resolve = Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let (package, _) = resolve.push_dir(&wit).unwrap();
        let world = resolve.select_world(&[package], Some("job")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default()
            .module(&module)
            .unwrap()
            .encode()
            .unwrap()
    }

    fn text(&self) -> String {
        let mut functions = String::new();
        for (export, parameters) in EXPORTS {
            let short = export.split_once('#').unwrap().1;
            let body = self.bodies.iter().find(|(name, _)| *name == short);
            let body = body.map_or("unreachable", |(_, body)| body.as_str());
            let results =
                format!("(result i32) (local $i i32) (local $n i32) {body} i32.const {ANSWER}");
            functions += &format!(
                "(func $f_{short} (export \"pelton:job/{export}\") (param {parameters}) {results})
                 (func (export \"cabi_post_pelton:job/{export}\") (param i32) (global.set $free (i32.const 65536)))"
            );
        }
        format!(
            r#"(module
                {}
                (memory (export "memory") 2)
                (global $free (mut i32) (i32.const 65536))
                {}
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                    (global.set $free (i32.add (local.get $at) (local.get 3)))
                    (loop $more
                        (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
                            (then (drop (memory.grow (i32.const 16))) (br $more))))
                    (local.get $at))
                {functions}
            )"#,
            self.imports, self.items
        )
    }
}

/// Writes a word of the answer; its bytes are counted from its start.
pub(crate) fn store(at: u32, value: &str) -> String {
    format!("(i32.store (i32.const {}) ({value}))", ANSWER + at)
}

/// The same for 8 bytes.
pub(crate) fn store64(at: u32, value: &str) -> String {
    format!("(i64.store (i32.const {}) ({value}))", ANSWER + at)
}

/// The answer is a value.
pub(crate) fn ok() -> String {
    store(0, "i32.const 0")
}

/// The answer is a failure with 4 bytes of text from `text` on, and a row.
pub(crate) fn failure(text: u32, row: u32) -> String {
    [
        store(0, "i32.const 1"),
        store(4, &format!("i32.const {text}")),
        store(8, "i32.const 4"),
        store(12, "i32.const 1"),
        store(16, &format!("i32.const {row}")),
    ]
    .concat()
}

/// The answer is a reply in which all rows are done, with the outputs at 512 and one count of rows.
pub(crate) fn reply(outputs: u32, rows: &str) -> String {
    [
        ok(),
        store(4, rows),
        store(8, "i32.const 512"),
        store(12, &format!("i32.const {outputs}")),
        store(16, "i32.const 768"),
        store(20, "i32.const 1"),
        format!("(i32.store (i32.const 768) ({rows}))"),
    ]
    .concat()
}

/// An output at 512: as many rows as came in, without parents, one column of fixed width `width` whose values are at
/// `values`.
pub(crate) fn output(rows: &str, values: &str, width: u32) -> String {
    let word = |at: u32, value: &str| format!("(i32.store (i32.const {at}) ({value}))");
    [
        word(512, "i32.const 0"),
        word(516, "i32.const 0"),
        word(520, rows),
        word(524, "i32.const 0"),
        word(536, "i32.const 640"),
        word(540, "i32.const 1"),
        word(544, "i32.const 0"),
        word(556, "i32.const 0"),
        word(568, "i32.const 0"),
        word(640, "i32.const 0"),
        word(652, "i32.const 0"),
        word(664, "i32.const 1"),
        word(668, values),
        word(672, &format!("i32.mul ({rows}) (i32.const {width})")),
    ]
    .concat()
}

/// Parameters of `transform`: the number of rows, and the address of the first column's values.
pub(crate) const ROWS: &str = "local.get 3";
pub(crate) const VALUES: &str = "i32.load offset=28 (local.get 4)";

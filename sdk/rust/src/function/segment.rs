//! A segment: stateless functions that run one after the other in one call.
//!
//! Rows keep their columns where they were made: the call's input is level 0, and each function that makes columns adds
//! a level. A selection, or rows that come from others, only change the level's *map*: for each row, where it stands in
//! the level's columns. A column is moved only where a function reads fields of two levels, or where it leaves.

use std::rc::Rc;

use super::transform::row_bytes;
use super::{Effect, Function, Input, Made, Ran, SideRows, Step, StepFunction};
use crate::bindings::exports::pelton::job::function::{Output, Reply};
use crate::bindings::pelton::job::types::{Batch, Column};
use crate::column::to_bytes;
use crate::error::{Error, Result};
use crate::gather::gather;
use crate::value::{Schema, top_field, top_fields};

/// Where a field's columns are.
#[derive(Clone)]
struct Place {
    level: usize,
    nodes: Vec<u32>,
    schema: Schema,
}

/// A function of a segment, with where its view's columns are.
struct Planned {
    function: usize,
    /// One for each outermost field of the view.
    view: Vec<Place>,
    /// The nodes of all, where all are of one level.
    direct: Option<(usize, Vec<u32>)>,
}

pub(crate) struct Segment {
    steps: Vec<Planned>,
    /// The columns that leave: those that a function of the segment has made.
    made: Vec<Place>,
}

/// The fields of a stream while a segment is planned, with those that are at hand.
struct Frame(Vec<(String, Place)>);

impl Segment {
    /// Errors: a function that is not stateless, a view that the input does not serve.
    pub(crate) fn plan(functions: &[Function], numbers: &[u32], input: &Schema) -> Result<Self> {
        let mut frame = Frame(places(input, 0));
        let mut steps = Vec::new();
        let (mut levels, mut generates) = (1, false);
        for number in numbers {
            let function = *number as usize;
            let Some(Function::Step(spec, _)) = functions.get(function) else {
                return Err(Error::new(format_args!(
                    "function {number} is not stateless, or does not exist"
                )));
            };
            let view = frame.view(&spec.view)?;
            let direct = direct(&view);
            if generates {
                return Err(Error::new(
                    "a function cannot follow one that makes watermarks",
                ));
            }
            steps.push(Planned {
                function,
                view,
                direct,
            });
            match &spec.effect {
                Effect::Select | Effect::Times => {}
                Effect::Watermarks => generates = true,
                Effect::Make(made) => {
                    frame = frame.after(spec, places(made, levels));
                    levels += 1;
                }
            }
        }
        let made = frame
            .0
            .into_iter()
            .map(|(_, place)| place)
            .filter(|p| p.level > 0)
            .collect();
        Ok(Self { steps, made })
    }

    /// `number` is the segment's own.
    pub(crate) fn run(
        &self,
        number: u32,
        functions: &[Function],
        rows: Batch,
        budget: usize,
    ) -> Result<Reply> {
        let all = rows.rows as usize;
        let mut run = Run {
            segment: number,
            levels: Vec::with_capacity(1 + self.steps.len()),
            rows: all,
            times: PerRow::of(rows.times),
            kinds: PerRow::of(rows.kinds),
            watermarks: None,
        };
        run.levels.push(Level {
            columns: rows.columns,
            rows: all,
            map: None,
        });
        let mut consumed = all;
        let mut sides: Vec<(u32, SideRows)> = Vec::new();
        let mut step_rows = Vec::with_capacity(self.steps.len());
        // Where the rows out of each function come from, where that is not the same row.
        let mut origins: Vec<(u32, Rc<Vec<u32>>)> = Vec::new();
        for (number, step) in (0u32..).zip(&self.steps) {
            let Some(Function::Step(_, function)) = functions.get(step.function) else {
                continue;
            };
            let before = run.rows;
            let ran = run.call(step, function.as_ref(), budget)?;
            if ran.done < before {
                consumed = run.origin_of(ran.done);
            }
            let Ran {
                made, sides: rows, ..
            } = ran;
            sides.extend(rows.into_iter().map(|mut side| {
                side.parents = compose(run.origin(), &side.parents);
                (number, side)
            }));
            run.take(made);
            step_rows.push(run.rows as u32);
            origins.extend(run.origin().map(|map| (number, Rc::clone(map))));
        }
        if consumed < all {
            for (number, rows) in (0u32..).zip(&mut step_rows) {
                let map = origins.iter().find(|(step, _)| *step == number);
                *rows = before_row(map.map(|(_, map)| map.as_slice()), *rows as usize, consumed);
            }
        }
        let mut outputs = Vec::with_capacity(1 + sides.len());
        if run.rows > 0 {
            outputs.push(self.output(&mut run));
        }
        outputs.extend(
            sides
                .into_iter()
                .filter_map(|(step, side)| side_output(step, side, consumed)),
        );
        Ok(Reply {
            consumed: consumed as u32,
            outputs,
            step_rows,
        })
    }

    /// What leaves the last function.
    fn output(&self, run: &mut Run) -> Output {
        let columns = run.take_made(&self.made);
        let times = run.times.take_made(run.rows, 8);
        let kinds = run.kinds.take_made(run.rows, 1);
        let parents = run
            .origin()
            .map(|map| row_bytes(map.get(..run.rows).unwrap_or(map)));
        Output {
            step: (self.steps.len().saturating_sub(1)) as u32,
            port: 0,
            rows: run.rows as u32,
            parents,
            columns,
            times,
            kinds,
            watermarks: run.watermarks.take(),
        }
    }
}

fn places(schema: &Schema, level: usize) -> Vec<(String, Place)> {
    top_fields(schema)
        .filter_map(|(start, nodes)| {
            let name = nodes.first()?.name.clone();
            let numbers = (start..start + nodes.len()).map(|n| n as u32).collect();
            Some((
                name,
                Place {
                    level,
                    nodes: numbers,
                    schema: nodes.to_vec(),
                },
            ))
        })
        .collect()
}

impl Frame {
    /// Where the fields of a view are.
    fn view(&self, view: &Schema) -> Result<Vec<Place>> {
        top_fields(view)
            .map(|(_, nodes)| {
                let name = nodes.first().map_or("", |f| f.name.as_str());
                let place = self
                    .0
                    .iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, place)| place);
                place.and_then(|p| narrow(p, nodes)).ok_or_else(|| {
                    Error::new(format_args!(
                        "field '{name}' is read by a function and was not shipped as it reads it"
                    ))
                })
            })
            .collect()
    }

    /// The fields after a function that makes `made`: in the order of its output, the others kept.
    fn after(&self, spec: &StepFunction, made: Vec<(String, Place)>) -> Self {
        let fields = top_fields(&spec.output).filter_map(|(_, nodes)| nodes.first());
        let found = fields.filter_map(|f| {
            let find = |all: &[(String, Place)]| all.iter().find(|(n, _)| *n == f.name).cloned();
            find(&made).or_else(|| find(&self.0))
        });
        Self(found.collect())
    }
}

/// The nodes of a field that a view of it reads; a nested record may be read in part.
fn narrow(place: &Place, view: &[crate::bindings::pelton::job::types::Field]) -> Option<Place> {
    use crate::bindings::pelton::job::types::DataType::Nested;
    let (have, want) = (place.schema.first()?, view.first()?);
    let nodes = match (have.data_type, want.data_type) {
        (Nested(_), Nested(_)) => {
            let (inner, wanted) = (place.schema.get(1..)?.to_vec(), view.get(1..)?);
            let mut nodes = vec![*place.nodes.first()?];
            for (_, want) in top_fields(wanted) {
                let (start, found) = top_field(&inner, &want.first()?.name)?;
                let numbers = place
                    .nodes
                    .get(1 + start..1 + start + found.len())?
                    .to_vec();
                let part = Place {
                    level: place.level,
                    nodes: numbers,
                    schema: found.to_vec(),
                };
                nodes.extend(narrow(&part, want)?.nodes);
            }
            nodes
        }
        (have_type, want_type) => {
            let same = have_type == want_type && place.schema.get(1..) == view.get(1..);
            (same && (want.nullable || !have.nullable)).then(|| place.nodes.clone())?
        }
    };
    Some(Place {
        level: place.level,
        nodes,
        schema: view.to_vec(),
    })
}

fn direct(view: &[Place]) -> Option<(usize, Vec<u32>)> {
    let level = view.first()?.level;
    let same = view.iter().all(|p| p.level == level);
    same.then(|| {
        (
            level,
            view.iter().flat_map(|p| p.nodes.iter().copied()).collect(),
        )
    })
}

/// The plan of a view over one schema. Errors: a field that is not there.
pub(crate) fn plan_view(input: &Schema, view: &Schema) -> Result<Vec<u32>> {
    let places = Frame(places(input, 0)).view(view)?;
    Ok(places.into_iter().flat_map(|p| p.nodes).collect())
}

type Map = Option<Rc<Vec<u32>>>;

/// Columns made in one place, and where the rows at hand stand in them.
struct Level {
    columns: Vec<Column>,
    rows: usize,
    map: Map,
}

impl Level {
    /// Whether the rows at hand are those of the columns.
    fn is_whole(&self, rows: usize) -> bool {
        self.map.is_none() && self.rows == rows
    }
}

/// What stands beside each row: its event time, what it does to the table.
struct PerRow {
    bytes: Option<Vec<u8>>,
    map: Map,
    /// A function of the segment has said it, not the batch.
    is_made: bool,
}

impl PerRow {
    fn of(bytes: Option<Vec<u8>>) -> Self {
        Self {
            bytes,
            map: None,
            is_made: false,
        }
    }

    fn make(&mut self, bytes: Vec<u8>) {
        *self = Self {
            bytes: Some(bytes),
            map: None,
            is_made: true,
        };
    }

    fn get(&self) -> Option<(&[u8], Option<&[u32]>)> {
        Some((
            self.bytes.as_deref()?,
            self.map.as_deref().map(Vec::as_slice),
        ))
    }

    /// What functions of the segment have said, for the rows at hand, `width` bytes each.
    fn take_made(&mut self, rows: usize, width: usize) -> Option<Vec<u8>> {
        let bytes = self.bytes.take().filter(|_| self.is_made)?;
        let Some(map) = &self.map else {
            return Some(bytes);
        };
        let mut out = Vec::with_capacity(rows * width);
        for at in map.iter().take(rows).map(|at| *at as usize * width) {
            out.extend_from_slice(bytes.get(at..at + width).unwrap_or_default());
        }
        Some(out)
    }
}

struct Run {
    segment: u32,
    levels: Vec<Level>,
    rows: usize,
    times: PerRow,
    kinds: PerRow,
    /// What follows each row, where the last function says so.
    watermarks: Option<Vec<u8>>,
}

impl Run {
    fn origin(&self) -> Option<&Rc<Vec<u32>>> {
        self.levels.first()?.map.as_ref()
    }

    fn origin_of(&self, row: usize) -> usize {
        self.origin()
            .and_then(|map| map.get(row))
            .map_or(row, |r| *r as usize)
    }

    fn call(&self, step: &Planned, function: &dyn Step, budget: usize) -> Result<Ran> {
        let mut input = Input {
            columns: &[],
            plan: None,
            physical: self.rows,
            map: None,
            rows: self.rows,
            times: self.times.get(),
            kinds: self.kinds.get(),
            segment: self.segment,
            origin: self.origin(),
            budget,
        };
        let mixed;
        match &step.direct {
            Some((number, plan)) => {
                let Some(level) = self.levels.get(*number) else {
                    return Err(Error::new("a level is missing"));
                };
                input.columns = &level.columns;
                input.plan = Some(plan);
                input.physical = level.rows;
                input.map = level.map.as_deref().map(Vec::as_slice);
            }
            None => {
                mixed = self.mixed(&step.view);
                input.columns = &mixed;
            }
        }
        function.run(&input)
    }

    /// The columns of a view over several levels, with one row for each row at hand.
    fn mixed(&self, view: &[Place]) -> Vec<Column> {
        let mut out = Vec::new();
        for place in view {
            self.copy_columns(place, &mut out);
        }
        out
    }

    fn copy_columns(&self, place: &Place, out: &mut Vec<Column>) {
        let Some(level) = self.levels.get(place.level) else {
            return;
        };
        let whole: Vec<u32>;
        let rows = match &level.map {
            Some(map) => map.get(..self.rows).unwrap_or(map),
            None => {
                whole = (0..self.rows as u32).collect();
                &whole
            }
        };
        let mut columns = place
            .nodes
            .iter()
            .filter_map(|n| level.columns.get(*n as usize));
        gather(&place.schema, &mut columns, rows, out);
    }

    /// The columns of all these fields, taken out.
    fn take_made(&mut self, made: &[Place]) -> Vec<Column> {
        let number = made.first().map_or(0, |place| place.level);
        let nodes = made
            .iter()
            .flat_map(|place| place.nodes.iter().map(|node| (place.level, *node)));
        if let Some(level) = self.levels.get_mut(number) {
            let all = (0..level.columns.len() as u32).map(|node| (number, node));
            if number > 0 && level.is_whole(self.rows) && nodes.eq(all) {
                return std::mem::take(&mut level.columns);
            }
        }
        let mut columns = Vec::with_capacity(made.len());
        for place in made {
            self.take_columns(place, &mut columns);
        }
        columns
    }

    /// As `copy_columns`, but columns that are as they should be are moved out.
    fn take_columns(&mut self, place: &Place, out: &mut Vec<Column>) {
        match self.levels.get_mut(place.level) {
            Some(level) if level.is_whole(self.rows) => {
                for node in &place.nodes {
                    if let Some(column) = level.columns.get_mut(*node as usize) {
                        out.push(Column {
                            validity: column.validity.take(),
                            offsets: column.offsets.take(),
                            values: column.values.take(),
                        });
                    }
                }
            }
            _ => self.copy_columns(place, out),
        }
    }

    fn take(&mut self, made: Made) {
        match made {
            Made::Selected(kept) => {
                if kept.len() < self.rows {
                    self.rows = kept.len();
                    self.follow(kept);
                }
            }
            Made::Rows {
                rows,
                parents,
                columns,
                times,
                kinds,
            } => {
                self.rows = rows;
                if let Some(parents) = parents {
                    self.follow(parents);
                }
                times.into_iter().for_each(|t| self.times.make(t));
                kinds.into_iter().for_each(|k| self.kinds.make(k));
                self.levels.push(Level {
                    columns,
                    rows,
                    map: None,
                });
            }
            Made::Watermarks(marks) => self.watermarks = Some(marks),
            Made::Times(times) => self.times.make(times),
        }
    }

    /// The rows at hand become those of these numbers.
    fn follow(&mut self, rows: Vec<u32>) {
        let rows = Rc::new(rows);
        let levels = self.levels.iter_mut().map(|level| &mut level.map);
        let beside = [&mut self.times, &mut self.kinds];
        let beside = beside.into_iter().filter(|b| b.bytes.is_some());
        for map in levels.chain(beside.map(|b| &mut b.map)) {
            *map = Some(match &*map {
                None => Rc::clone(&rows),
                some => Rc::new(compose(some.as_ref(), &rows)),
            });
        }
    }
}

fn compose(map: Option<&Rc<Vec<u32>>>, rows: &[u32]) -> Vec<u32> {
    match map {
        None => rows.to_vec(),
        Some(map) => rows
            .iter()
            .map(|r| map.get(*r as usize).copied().unwrap_or(0))
            .collect(),
    }
}

/// How many of `rows` rows come from before row `end` of the call's batch.
fn before_row(map: Option<&[u32]>, rows: usize, end: usize) -> u32 {
    match map {
        None => rows.min(end) as u32,
        Some(map) => map
            .get(..rows)
            .unwrap_or(map)
            .partition_point(|r| (*r as usize) < end) as u32,
    }
}

/// A side output's rows, those left out that come from rows which are not done.
pub(crate) fn side_output(step: u32, side: SideRows, consumed: usize) -> Option<Output> {
    let kept = side.parents.partition_point(|r| (*r as usize) < consumed);
    if kept == 0 {
        return None;
    }
    let mut columns = side.columns;
    if kept < side.parents.len() {
        let rows: Vec<u32> = (0..kept as u32).collect();
        let mut cut = Vec::new();
        let mut whole = columns.iter();
        for (_, nodes) in top_fields(&side.schema) {
            gather(nodes, &mut whole, &rows, &mut cut);
        }
        columns = cut;
    }
    let parents = Some(to_bytes(side.parents.iter().take(kept).copied()));
    Some(Output {
        step,
        port: side.port,
        rows: kept as u32,
        parents,
        columns,
        times: None,
        kinds: None,
        watermarks: None,
    })
}

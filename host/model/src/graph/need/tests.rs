use super::super::*;
use super::needs;
use crate::schema::{DataType, Field, Schema};

fn op(name: &str, body: Body, outputs: Vec<Schema>) -> Operator {
    let outputs = outputs
        .into_iter()
        .map(|schema| Output {
            name: "main".into(),
            schema,
        })
        .collect();
    Operator {
        uid: name.into(),
        name: name.into(),
        parallelism: None,
        body,
        outputs,
    }
}

fn edge(from: u32, to: u32) -> Edge {
    Edge {
        source: (OperatorId(from), 0),
        target: (OperatorId(to), 0),
        partition: Partition::Forward,
    }
}

/// source(ts, bid{price, url, extra}?) -> only bid(price, url) -> filter on price -> sink(url)
fn graph() -> JobGraph {
    let inner = vec![
        Field::new("price", DataType::I64),
        Field::new("url", DataType::String),
        Field::new("extra", DataType::String),
    ];
    let event = Schema::new(vec![
        Field::new("ts", DataType::Timestamp),
        Field::new("bid", DataType::Struct(inner.clone())).nullable(),
    ]);
    let bid = Schema::new(inner);
    let price = Schema::new(vec![Field::new("price", DataType::I64)]);
    let url = Schema::new(vec![Field::new("url", DataType::String)]);
    let connector = |schema: &Schema| Connector {
        name: "c".into(),
        options: BTreeMap::new(),
        schema: schema.clone(),
    };
    let select = Select {
        unnest: Some("bid".into()),
        columns: bid
            .fields
            .iter()
            .map(|f| (f.name.clone(), f.name.clone()))
            .collect(),
    };
    let filter = Transform {
        function: FunctionId(0),
        view: price,
        produces: vec![],
        times: false,
        watermarks: false,
    };
    JobGraph {
        name: "j".into(),
        operators: vec![
            op("in", Body::Source(connector(&event)), vec![event]),
            op("bids", Body::Select(select), vec![bid.clone()]),
            op("dear", Body::Transform(filter), vec![bid]),
            op("out", Body::Sink(connector(&url)), vec![]),
        ],
        edges: vec![edge(0, 1), edge(1, 2), edge(2, 3)],
        params: vec![],
        parallelism: None,
        max_parallelism: None,
    }
}

#[test]
fn a_source_makes_only_what_is_read() {
    let g = graph();
    check(&g).unwrap();
    let n = needs(&g).unwrap();
    let show = |op: u32| n.stream(OperatorId(op), 0).unwrap().to_string();
    assert_eq!(show(0), "bid: {price: i64, url: string}?");
    assert_eq!(show(1), "price: i64, url: string");
    assert_eq!(show(2), "url: string");
}

#[test]
fn wrong_graphs_are_refused_by_name() {
    let refused = |f: &dyn Fn(&mut JobGraph)| {
        let mut g = graph();
        f(&mut g);
        check(&g).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|g| g.edges.push(edge(2, 1))),
        "the graph has a cycle"
    );
    assert_eq!(
        refused(&|g| g.edges.clear()),
        "input 0 has no stream, operator 'bids'".to_string()
    );
    assert!(refused(&|g| g.operators[3].uid = "in".into()).contains("same uid 'in'"));
    assert!(refused(&|g| g.operators[2].parallelism = Some(0)).contains("parallelism 0"));
    assert!(
        refused(&|g| g.operators[2].parallelism = Some(1_000_000)).contains("parallelism 1000000")
    );
    assert!(
        refused(&|g| g.edges[0].partition = Partition::Key(vec!["nope".into()]))
            .contains("no field 'nope'; the fields are: ts, bid")
    );
    assert!(
        refused(&|g| g.operators = vec![g.operators[0].clone(); 2_000]).contains("2000 operators")
    );
}

#[test]
fn event_time_needs_timestamps_and_names_the_source() {
    let mut g = graph();
    let spec = WindowSpec {
        key: vec!["url".into()],
        assigner: Assigner::Tumbling {
            size_ms: 10,
            offset_ms: 0,
        },
        lateness_ms: 0,
        late_output: None,
        function: WindowFunction::Columns(vec![("url".into(), WindowValue::Key("url".into()))]),
    };
    g.operators[2].body = Body::Window(spec);
    g.operators[2].outputs[0].schema = Schema::new(vec![Field::new("url", DataType::String)]);
    let e = check(&g).unwrap_err();
    assert_eq!(e.code(), crate::ErrorCode::NoTimestamps);
    assert!(e.message().contains("source 'in'"), "{e}");
}

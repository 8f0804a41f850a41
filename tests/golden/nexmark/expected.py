"""Makes expected/qN.csv: the answers of DuckDB to the queries over events.jsonl.gz.

Needs Python 3 and its package duckdb (2.0.0 was used). Run it in this folder: `python3 expected.py`; with a folder as
argument it also compares with the files qN.csv there.

A file holds the header and the rows, sorted bytewise, as `pelton` writes them. Those of more than 64 KiB are not kept:
their hash is in expected/sha256. q12 has no answer, as it goes by the clock.

Events of equal times keep their order of arrival (`n`): of equal bids the earlier one wins (q6, q9, q19), of a
bidder's bids at the same time the later one is the latest (q18).
"""

import csv
import gzip
import hashlib
import io
import os
import sys
import tempfile

import duckdb

KEPT_BYTES = 64 << 10

VIEWS = """
CREATE TABLE person AS SELECT unnest(person), n FROM events WHERE event_type = 0;
CREATE TABLE auction AS SELECT unnest(auction), n FROM events WHERE event_type = 1;
CREATE TABLE bid AS
  SELECT unnest(bid), n, ts, CASE WHEN bid.price < 10000 THEN 1 WHEN bid.price < 1000000 THEN 2 ELSE 3 END AS rank
  FROM events WHERE event_type = 2;
CREATE VIEW live AS
  SELECT a.id, a.seller, a.category, b.bidder, b.price, b.dateTime AS bid_dateTime, b.extra AS bid_extra, b.ts, b.n
  FROM auction a JOIN bid b ON b.auction = a.id AND b.dateTime BETWEEN a.dateTime AND a.expires;
CREATE VIEW winning AS
  SELECT * FROM live QUALIFY row_number() OVER (PARTITION BY id ORDER BY price DESC, ts, n) = 1;
"""

COUNTS = """
  count(*) AS total_bids,
  count(*) FILTER (rank = 1) AS rank1_bids,
  count(*) FILTER (rank = 2) AS rank2_bids,
  count(*) FILTER (rank = 3) AS rank3_bids"""

UNIQUE = "".join(
    f""",
  count(DISTINCT {what}) AS total_{what}s,
  count(DISTINCT {what}) FILTER (rank = 1) AS rank1_{what}s,
  count(DISTINCT {what}) FILTER (rank = 2) AS rank2_{what}s,
  count(DISTINCT {what}) FILTER (rank = 3) AS rank3_{what}s"""
    for what in ("bidder", "auction")
)


def text(ms):
    """A time in milliseconds as text."""
    return f"strftime(make_timestamp(({ms}) * 1000), '%Y-%m-%d %H:%M:%S.%g')"


EURO = "(CAST(price AS DECIMAL(34, 0)) * CAST(0.908 AS DECIMAL(4, 3)))"
DAY = "substr(dateTime, 1, 10)"
MINUTE = "substr(dateTime, 12, 5)"

QUERIES = {
    "q0": "SELECT auction, bidder, price, dateTime, extra FROM bid",
    "q1": f"SELECT auction, bidder, {EURO} AS price, dateTime, extra FROM bid",
    "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    "q3": """
SELECT p.name, p.city, p.state, a.id
FROM auction a JOIN person p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')""",
    "q4": """
SELECT category AS id, sum(highest) // count(*) AS final
FROM (SELECT id, category, max(price) AS highest FROM live GROUP BY ALL)
GROUP BY category""",
    "q5": f"""
WITH counted AS (
  SELECT auction, s AS start, count(*) AS num
  FROM (SELECT auction, unnest(range(ts - ts % 2000 - 8000, ts + 1, 2000)) AS s FROM bid)
  GROUP BY ALL)
SELECT auction, num, {text("start")} AS starttime, {text("start + 10000")} AS endtime
FROM counted QUALIFY num = max(num) OVER (PARTITION BY start)""",
    "q6": """
SELECT seller, id AS auction, bid_dateTime AS dateTime, sum(price) OVER w // count(*) OVER w AS avg_price
FROM winning
WINDOW w AS (PARTITION BY seller ORDER BY ts, n ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)""",
    "q7": """
WITH highest AS (SELECT ts - ts % 10000 AS start, max(price) AS price FROM bid GROUP BY ALL)
SELECT b.auction, b.price, b.bidder, b.dateTime, b.extra
FROM bid b JOIN highest h ON b.price = h.price AND b.ts BETWEEN h.start AND h.start + 10000""",
    "q8": f"""
SELECT DISTINCT p.id, p.name, {text("p.ts - p.ts % 10000")} AS starttime
FROM (SELECT *, epoch_ms(dateTime::TIMESTAMP) AS ts FROM person) p
JOIN (SELECT *, epoch_ms(dateTime::TIMESTAMP) AS ts FROM auction) a
ON a.seller = p.id AND a.ts // 10000 = p.ts // 10000""",
    "q9": """
SELECT a.id, itemName, description, initialBid, reserve, dateTime, expires, a.seller, a.category, extra,
  w.id AS auction, bidder, price, bid_dateTime, bid_extra
FROM auction a JOIN winning w ON w.id = a.id""",
    "q10": f"SELECT auction, bidder, price, dateTime, extra, {DAY} AS dt, {MINUTE} AS hm FROM bid",
    "q11": f"""
WITH marked AS (
  SELECT bidder, ts, coalesce(ts - lag(ts) OVER w > 10000, true)::INT AS first
  FROM bid WINDOW w AS (PARTITION BY bidder ORDER BY ts)),
numbered AS (
  SELECT bidder, ts, sum(first) OVER (PARTITION BY bidder ORDER BY ts RANGE UNBOUNDED PRECEDING) AS session FROM marked)
SELECT bidder, count(*) AS bid_count, {text("min(ts)")} AS starttime, {text("max(ts) + 10000")} AS endtime
FROM numbered GROUP BY bidder, session""",
    "q13": """
SELECT b.auction, b.bidder, b.price, b.dateTime, s.value
FROM bid b JOIN side s ON s.key = b.auction % 10000""",
    "q14": f"""
WITH judged AS (
  SELECT auction, bidder, {EURO} AS euros, CAST({MINUTE}[1:2] AS INT) AS hour, dateTime, extra FROM bid)
SELECT auction, bidder, euros AS price,
  CASE WHEN hour BETWEEN 8 AND 18 THEN 'dayTime' WHEN hour <= 6 OR hour >= 20 THEN 'nightTime' ELSE 'otherTime' END
    AS bidTimeType,
  dateTime, extra, len(extra) - len(replace(extra, 'c', '')) AS c_counts
FROM judged WHERE euros > 1000000 AND euros < 50000000""",
    "q15": f"SELECT {DAY} AS day, {COUNTS}{UNIQUE} FROM bid GROUP BY ALL",
    "q16": f"SELECT channel, {DAY} AS day, max({MINUTE}) AS minute, {COUNTS}{UNIQUE} FROM bid GROUP BY ALL",
    "q17": f"""
SELECT auction, {DAY} AS day, {COUNTS}, min(price) AS min_price, max(price) AS max_price,
  sum(price) // count(*) AS avg_price, sum(price) AS sum_price
FROM bid GROUP BY ALL""",
    "q18": """
SELECT auction, bidder, price, channel, url, dateTime, extra FROM bid
QUALIFY row_number() OVER (PARTITION BY auction, bidder ORDER BY ts DESC, n DESC) = 1""",
    "q19": """
SELECT auction, bidder, price, channel, url, dateTime, extra,
  row_number() OVER (PARTITION BY auction ORDER BY price DESC, ts, n) AS rank_number
FROM bid QUALIFY rank_number <= 10""",
    "q20": """
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.dateTime AS bid_dateTime, b.extra AS bid_extra,
  a.itemName, a.description, a.initialBid, a.reserve, a.dateTime AS auction_dateTime, a.expires, a.seller, a.category,
  a.extra AS auction_extra
FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10""",
    "q21": """
SELECT auction, bidder, price, channel,
  CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
    ELSE nullif(regexp_extract(url, '[?&]channel_id=([^&#]*)', 1), '') END AS channel_id
FROM bid WHERE channel_id IS NOT NULL""",
    "q22": """
SELECT auction, bidder, price, channel,
  nullif(split_part(url, '/', 4), '') AS dir1, nullif(split_part(url, '/', 5), '') AS dir2,
  nullif(split_part(url, '/', 6), '') AS dir3
FROM bid""",
}


def answer(db, query):
    """The header and the sorted rows of a query's answer, as the bytes of its file."""
    result = db.execute(query)
    names = [column[0] for column in result.description]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows(result.fetchall())
    rows = sorted(out.getvalue().encode().splitlines(keepends=True))
    return ",".join(names).encode() + b"\n" + b"".join(rows)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    db = duckdb.connect()
    with tempfile.TemporaryDirectory() as folder:
        events = os.path.join(folder, "events.jsonl")
        with gzip.open(os.path.join(here, "events.jsonl.gz")) as packed, open(events, "wb") as plain:
            plain.write(packed.read())
        fields = {
            "person": "id BIGINT, name VARCHAR, city VARCHAR, state VARCHAR, dateTime VARCHAR",
            "auction": "id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT, "
            "dateTime VARCHAR, expires VARCHAR, seller BIGINT, category BIGINT, extra VARCHAR",
            "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime VARCHAR, "
            "extra VARCHAR",
        }
        columns = ", ".join(f"{name}: 'STRUCT({types})'" for name, types in fields.items())
        db.execute("SET preserve_insertion_order = true; SET threads = 1")
        db.execute(
            "CREATE TABLE events AS SELECT row_number() OVER () AS n, * FROM read_json("
            f"'{events}', format = 'newline_delimited', columns = {{event_type: 'INT', ts: 'BIGINT', {columns}}})"
        )
    side = os.path.join(here, "side_input.csv")
    db.execute(f"CREATE TABLE side AS SELECT * FROM read_csv('{side}', names = ['key', 'value'], header = false)")
    db.execute(VIEWS)
    folder = os.path.join(here, "expected")
    os.makedirs(folder, exist_ok=True)
    hashes = []
    for name, query in QUERIES.items():
        content = answer(db, query)
        hashes.append(f"{hashlib.sha256(content).hexdigest()}  {name}.csv\n")
        if len(content) <= KEPT_BYTES:
            with open(os.path.join(folder, f"{name}.csv"), "wb") as file:
                file.write(content)
        rows = len(content.splitlines()) - 1
        line = f"{name}: {rows} rows, {len(content)} bytes"
        if len(sys.argv) > 1 and os.path.exists(other := os.path.join(sys.argv[1], f"{name}.csv")):
            with open(other, "rb") as file:
                line += ", as the other says" if file.read() == content else ", NOT as the other says"
        print(line)
    with open(os.path.join(folder, "sha256"), "w") as file:
        file.writelines(hashes)


if __name__ == "__main__":
    main()

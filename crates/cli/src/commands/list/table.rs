//! The listing as a table, like kubectl's.

use std::collections::HashSet;
use std::io::{self, Write};

use rulegen_compiler::Refusal;
use rulegen_inspect::listing::State;

use super::view::{FrontendView, ServiceView, View};
use crate::paint::Paint;
use crate::plain::plain;

/// Maximum number of endpoints per cell, as in kubectl.
const SHOWN: usize = 3;

/// The columns that name a frontend.
const FRONTEND_COLUMNS: usize = 5;

/// Number of blanks between columns, as in kubectl.
const GAP: usize = 3;

/// Columns and rows of text.
pub(super) struct TextTable {
    header: Vec<&'static str>,
    rows: Vec<TextRow>,
}

struct TextRow {
    cells: Vec<String>,
    state: State,
}

/// One row per frontend.
pub(super) fn of(view: &View<'_>, wide: bool) -> TextTable {
    let mut header = vec!["NAMESPACE", "NAME", "PORT", "KIND", "FRONTEND", "POLICY"];
    if wide {
        header.extend(["AFFINITY", "SOURCE-RANGES"]);
    }
    header.push("ENDPOINTS");
    if wide {
        header.push("FROM-NODE");
    }
    if view.is_counted {
        header.push("CONNECTIONS");
    }
    if view.is_compared {
        header.push("STATE");
    }
    let rows = view.services.iter().flat_map(|service| {
        service.frontends.iter().enumerate().map(move |(n, frontend)| {
            let cells = cells(view, service, frontend, n == 0, wide);
            TextRow { cells, state: frontend.compared }
        })
    });
    TextTable { header, rows: rows.collect() }
}

fn cells(
    view: &View<'_>,
    service: &ServiceView<'_>,
    frontend: &FrontendView<'_>,
    is_first: bool,
    wide: bool,
) -> Vec<String> {
    // Names in the kernel may come from any program.
    let text = |name: Option<&str>| plain(name.unwrap_or("<none>")).into_owned();
    let mut cells = vec![
        text(service.namespace.as_deref()),
        text(service.name.as_deref()),
        text(service.port.as_deref()),
        frontend.kind.to_owned(),
        place(frontend),
        frontend.traffic.policy.unwrap_or("-").to_owned(),
    ];
    let traffic = &frontend.traffic;
    let shown = if wide { usize::MAX } else { SHOWN };
    if wide {
        let seconds = traffic.session_affinity_seconds;
        cells.push(seconds.map_or("-".to_owned(), |seconds| format!("{seconds}s")));
        cells.push(traffic.source_ranges.map_or("-".to_owned(), |ranges| some_of(ranges, shown)));
    }
    cells.push(match (traffic.endpoints, traffic.refusal) {
        ([], Some(Refusal::NoEndpoints)) => "<none: rejected>".to_owned(),
        ([], Some(Refusal::NoLocalEndpoints)) => "<none here: dropped>".to_owned(),
        (endpoints, _) => some_of(endpoints, shown),
    });
    if wide {
        cells.push(match traffic.endpoints_from_node {
            [] => "-".to_owned(),
            endpoints => some_of(endpoints, shown),
        });
    }
    if view.is_counted {
        // Connections are counted per service port; its first row shows them.
        let counted = service.connections.filter(|_| is_first);
        cells.push(counted.map(|connections| connections.to_string()).unwrap_or_default());
    }
    if view.is_compared {
        cells.push(state(frontend));
    }
    cells
}

fn place(frontend: &FrontendView<'_>) -> String {
    let (port, protocol) = (frontend.port, &frontend.protocol);
    match frontend.address {
        Some(ip) => format!("{}/{protocol}", std::net::SocketAddr::new(ip, port)),
        None => format!("*:{port}/{protocol}"),
    }
}

fn some_of<T: ToString>(all: &[T], shown: usize) -> String {
    if all.is_empty() {
        return "<none>".to_owned();
    }
    let some: Vec<String> = all.iter().take(shown).map(ToString::to_string).collect();
    let more = all.len().saturating_sub(shown);
    let rest = if more > 0 { format!(" + {more} more...") } else { String::new() };
    format!("{}{rest}", some.join(","))
}

fn state(frontend: &FrontendView<'_>) -> String {
    match frontend.compared {
        State::InSync => "ok".to_owned(),
        State::Missing => "missing".to_owned(),
        State::Extra => "extra".to_owned(),
        State::Differs => "differs".to_owned(),
        State::EndpointsDiffer => {
            let missing = ("missing", &frontend.missing_endpoints);
            let extra = ("extra", &frontend.extra_endpoints);
            let parts: Vec<String> = [missing, extra]
                .into_iter()
                .filter(|(_, endpoints)| !endpoints.is_empty())
                .map(|(what, endpoints)| format!("{what} {}", some_of(endpoints, SHOWN)))
                .collect();
            if parts.is_empty() { "endpoints differ".to_owned() } else { parts.join("; ") }
        }
    }
}

impl TextTable {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the table; without a header if it is empty.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        paint: &Paint,
        has_header: bool,
    ) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let widths = self.widths();
        if has_header {
            writeln!(out, "{}", paint.bold(&line(&self.header, &widths)))?;
        }
        self.rows.iter().try_for_each(|row| row.write(out, paint, &widths))
    }

    /// Writes the rows that are new since `before`, and the frontends that were removed.
    pub(super) fn write_changes(
        &self,
        before: &TextTable,
        out: &mut impl Write,
        paint: &Paint,
    ) -> io::Result<()> {
        let widths = self.widths();
        let known: HashSet<&[String]> =
            before.rows.iter().map(|row| row.cells.as_slice()).collect();
        for row in self.rows.iter().filter(|row| !known.contains(row.cells.as_slice())) {
            row.write(out, paint, &widths)?;
        }
        let left: HashSet<&[String]> = self.rows.iter().map(TextRow::frontend).collect();
        for row in before.rows.iter().filter(|row| !left.contains(row.frontend())) {
            let removed = ["<removed>".to_owned()];
            let cells = [row.frontend(), &removed].concat();
            writeln!(out, "{}", paint.goes(&line(&cells, &widths)))?;
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|name| name.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

impl TextRow {
    /// The cells that name the frontend: up to `FRONTEND`.
    fn frontend(&self) -> &[String] {
        self.cells.get(..FRONTEND_COLUMNS).unwrap_or_default()
    }

    fn write(&self, out: &mut impl Write, paint: &Paint, widths: &[usize]) -> io::Result<()> {
        let line = line(&self.cells, widths);
        match self.state {
            State::InSync => writeln!(out, "{line}"),
            State::Missing => writeln!(out, "{}", paint.comes(&line)),
            State::Extra => writeln!(out, "{}", paint.goes(&line)),
            State::Differs | State::EndpointsDiffer => writeln!(out, "{}", paint.changes(&line)),
        }
    }
}

/// All text is ASCII, except the replacement of control characters.
fn line<T: AsRef<str>>(cells: &[T], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let cell = cell.as_ref();
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + GAP));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use rulegen_net::IpFamily;

    use super::super::view::TrafficView;
    use super::*;

    #[test]
    fn list_table_escapes_control_characters() {
        let title = "\x1b]0;owned\x07";
        let traffic = TrafficView {
            policy: None,
            refusal: None,
            refused_code: None,
            endpoints: &[],
            endpoints_from_node: &[],
            source_ranges: None,
            session_affinity_seconds: None,
        };
        let frontend = FrontendView {
            kind: "ClusterIP",
            family: IpFamily::Ipv4,
            address: None,
            protocol: "TCP".to_owned(),
            port: 80,
            traffic,
            state: None,
            desired: None,
            missing_endpoints: vec![],
            extra_endpoints: vec![],
            compared: State::InSync,
        };
        let service = ServiceView {
            namespace: Some(title.into()),
            name: Some(title.into()),
            port: Some(title.into()),
            state: None,
            connections: None,
            frontends: vec![frontend],
            endpoints: vec![],
        };
        let view = View {
            is_filtered: false,
            mode: "nftables",
            kube_proxy_tables: &[],
            services: vec![service],
            is_compared: false,
            is_counted: false,
        };
        let mut out = Vec::new();
        assert!(of(&view, true).write(&mut out, &Paint::for_stdout(), true).is_ok());
        let text = String::from_utf8_lossy(&out);
        assert!(!text.contains("\x1b]") && !text.contains('\x07'), "{text:?}");
        let Some((header, row)) = text.split_once('\n') else { panic!("{text}") };
        assert_eq!(row.matches("\u{fffd}]0;owned\u{fffd}").count(), 3, "{row}");
        let at = |line: &str, word: &str| {
            line.find(word).and_then(|at| line.get(..at)).map(|start| start.chars().count())
        };
        assert_eq!(at(header, "KIND"), at(row, "ClusterIP"), "{text}");
    }
}

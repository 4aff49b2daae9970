package store

// Kind is which database it is.
type Kind string

// The databases.
const (
	Postgres Kind = "postgres"
	SQLite   Kind = "sqlite"
)

// dialect is what differs between the databases.
type dialect struct {
	kind        Kind
	placeholder string // before the number of an argument
	// now is the time in microseconds; "": this machine's, which SQLite's is, too.
	now string
	// durable is a table of one row, whose evaluation has the transaction's commit be on
	// the disk before it is confirmed, and lazy is one that has not.
	durable, lazy string
	// oneStatement: a statement can change several tables.
	oneStatement bool
	// locks: rows are locked one by one, and those of others can be skipped.
	locks bool
	// sharesCommits: callers share transactions, since the database has one writer.
	sharesCommits bool
}

var dialects = map[Kind]dialect{
	Postgres: {
		kind:        Postgres,
		placeholder: "$",
		// Not clock_timestamp, by which no index is searched.
		now: "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS bigint)",
		// remote_write and remote_apply are more than on, and stay.
		durable: "(SELECT set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'" +
			" ELSE current_setting('synchronous_commit') END, true) AS durable)",
		lazy:         "(SELECT set_config('synchronous_commit', 'off', true) AS lazy)",
		oneStatement: true,
		locks:        true,
	},
	SQLite: {kind: SQLite, placeholder: "?", sharesCommits: true},
}

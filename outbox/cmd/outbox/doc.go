// Command outbox shows what is in an outbox, and carries out what a person decides.
//
//	go install github.com/graphretry/graphretry/outbox/cmd/outbox@latest
//	export OUTBOX_DB=postgres://user@host/database    # or the file of a SQLite database
//	outbox top
//
// Its verbs:
//
//	outbox stats                            counts, and the Runs of all machines
//	outbox top      [-every D] [-n N]       the same live, and why messages wait or failed
//	outbox list     [filter]                the messages that match
//	outbox show     ID                      one message
//	outbox resend   [-yes] ID... or filter  puts unknown or failed messages back into the queue
//	outbox drop     [-yes] ID... or filter  gives up unknown or queued messages
//	outbox park     [-yes] ID... or filter  stops queued messages: they become unknown
//	outbox delete   [-yes] ID... or filter  deletes messages and everything about them
//	outbox pause    [NUMBER]                stops a phone number, or all
//	outbox resume   [NUMBER]                lets it send again
//	outbox health                           whether the database can be used
//	outbox serve    [-addr ADDRESS]         the pages of package page, on loopback
//	outbox enqueue  [flags] ID NUMBER       puts the payload on standard input into the queue
//	outbox schema   [-dialect D]            the SQL that creates the tables
//
// "outbox VERB -h" says more about each.
//
// # The database
//
// -db names the database; without it the environment variable OUTBOX_DB does. It is one of these:
//
//   - A URL of PostgreSQL, as in postgres://user@host/database, or a connection string as in
//     "host=/run/postgresql dbname=shop". PGPASSWORD, ~/.pgpass and the other settings of libpq
//     apply. Other users of the machine can read a password in -db in the list of processes,
//     and cannot read one in OUTBOX_DB.
//   - The file of a SQLite database. The command does not create one.
//
// -name is the name of the outbox, as in WithName: graphretry by default. -db, -name and -json
// may stand before the verb or after it, all other flags only after it. Flags stand before
// arguments, and -- stands before an ID that begins with a dash. No error has a password.
//
// # Filters
//
// A filter is one or more of these flags. A message must match all of them:
//
//   - -state has states with commas between them: queued, sending, sent, failed, unknown.
//   - -number is a phone number ID, and -label the label of a campaign.
//   - -code is a code or a subcode of Meta's last error.
//   - -older is the least time since a message was enqueued, as in 10m, 2h or 3d.
//   - -changed-after is a time as in 2026-11-27T09:00:00Z. It matches messages that have changed
//     after that. It also matches messages that are queued and due: an older copy of the database
//     cannot show whether these were sent.
//   - -after is the ID of a message. It matches messages that were enqueued after that one, as
//     for the next page of a list.
//   - -limit is the number of messages at most, the first that were enqueued.
//
// A flag with an empty value is refused, so that an empty variable of a script never means
// all messages.
//
// # Decisions about many messages
//
// resend, drop, park and delete count the messages that match a filter, print how many are in
// which state, and ask. They also ask if there is more than one ID. If standard input is no
// terminal they do nothing unless -yes is given. -dry-run only counts.
//
// Messages that are enqueued after the count are left alone, and so are messages that are being
// sent. resend applies only to the messages that were counted and have not changed since: a
// webhook or somebody else may have settled the others. drop, park and delete apply to all
// messages that match at the moment of the change: "drop -state unknown" leaves alone what
// somebody resends meanwhile. Pages of 4,000 messages are changed at once. If one of several IDs
// is refused, standard error says why, and the command goes on with the others.
//
// # JSON
//
// With -json each line of the output is an object: one for stats, show, enqueue, pause, resume,
// health, schema, serve and a decision, one for each message of list, and one for each look of
// top. The names are in lower case with underscores. They stay the same in later versions; more
// may come. Times are in RFC 3339. A time or a text that is empty is left out.
//
// A message has id, phone_number_id, label, state, why, reason, graph, retries, message_id,
// enqueued_at, changed_at, not_before, delivered_at, read_at, participant_failures and
// participant_graph. graph is Meta's error, with the names of graphretry's log: code, subcode,
// class, title, message, details, user_title, user_message, fbtrace_id, advice and status.
//
// stats has at, states, waiting_since, paused, held_for, next_probe_at, numbers, labels and runs.
// waiting_since is since when the message that waits longest has waited. top adds
// sent_per_second, oldest_queued and last_failed_or_unknown. A decision has decision, meant,
// sending, done and dry_run.
//
// # Exit status
//
// The exit status is 0 if all was done. It is 1 if something failed or was refused, also if the
// person who was asked said no. It is 2 if the command line is wrong. Errors are printed to
// standard error, also with -json.
package main

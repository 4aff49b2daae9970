// Command outbox shows what is in an outbox, and carries out what a person decides.
//
//	go install github.com/graphretry/graphretry/outbox/cmd/outbox@latest
//	export OUTBOX_DB=postgres://user@host/database    # or the file of a SQLite database
//	outbox top
//
// What it can do:
//
//	outbox stats                            counts, and the Runs of all machines
//	outbox top      [-every D] [-n N]       the same live, and why messages wait or failed
//	outbox list     [filter]                the messages that fit
//	outbox show     ID                      one message
//	outbox resend   [-yes] ID... or filter  puts unknown or failed messages back into the queue
//	outbox drop     [-yes] ID... or filter  gives up unknown or queued messages
//	outbox park     [-yes] ID... or filter  has queued messages not be sent: they become unknown
//	outbox delete   [-yes] ID... or filter  deletes messages and what is known of them
//	outbox pause    [NUMBER]                stops a phone number, or all
//	outbox resume   [NUMBER]                lets it send again
//	outbox health                           whether the database can be used
//	outbox serve    [-addr ADDRESS]         the pages of package page, on loopback
//	outbox enqueue  [flags] ID NUMBER       puts the payload on standard input into the queue
//	outbox schema   [-dialect D]            the SQL that makes the tables
//
// "outbox VERB -h" says more of each.
//
// # The database
//
// -db, or without it the environment variable OUTBOX_DB, is one of these:
//
//   - a URL of PostgreSQL, as in postgres://user@host/database, or a connection string as in
//     "host=/run/postgresql dbname=shop". PGPASSWORD, ~/.pgpass and the other settings of libpq
//     apply. Other users of the machine can read a password in -db in the list of processes,
//     and cannot read one in OUTBOX_DB.
//   - the file of a SQLite database. A file that is not there is not made.
//
// -name is the outbox in it, as WithName sets it: graphretry by default. -db, -name and -json
// may stand before the verb or after it, all other flags after it. Flags stand before
// arguments, and -- stands before an ID that begins with a dash. No error has a password.
//
// # Filters
//
// Messages that fit all flags are meant:
//
//   - -state has states with commas between them: queued, sending, sent, failed, unknown.
//   - -number is a phone number ID, and -label the label of a campaign.
//   - -code is a code or a subcode of what Meta said last.
//   - -older is for how long they have been enqueued at least, as in 10m, 2h or 3d.
//   - -changed-after is a time as in 2026-11-27T09:00:00Z. It fits what has changed after
//     that. It also fits what is queued and due: an older copy of the database cannot know
//     whether that was sent.
//   - -after is the ID of a message. It fits what was enqueued after that one, as for the
//     next page of a list.
//   - -limit is the number of messages at most, the first that were enqueued.
//
// A flag with an empty value is refused, so that an empty variable of a script never means
// all messages.
//
// # Decisions about many messages
//
// resend, drop, park and delete count the messages that a filter fits, say in which states
// they are, and ask. They also ask for more than one ID. Where standard input is no terminal
// they do nothing unless -yes is given. -dry-run counts, and does nothing.
//
// What is enqueued after the count is left alone, and so is what is being sent. resend touches
// only the messages that were counted, and takes about a millisecond for each; the others touch
// all that fit by then. If one of several IDs is refused, standard error says why, and the
// others are done.
//
// # JSON
//
// With -json the output is an object a line: one for stats, show, enqueue, pause, resume,
// health, schema, serve and a decision, one for each message of list, and one for each look of
// top. The names are in lower case with underscores. They stay the same, and more may come.
// Times are in RFC 3339. A time or a text that is not known is left out.
//
// A message has id, phone_number_id, label, state, why, reason, graph, retries, message_id, enqueued_at,
// changed_at, not_before, delivered_at, read_at, participant_failures and participant_graph.
// graph is what Meta said, with the names that graphretry's log has: code, subcode, class, title,
// message, details, user_title, user_message, fbtrace_id, advice and status. stats has at,
// states, oldest_queued_at, paused, held_for, next_probe_at, numbers, labels and runs; top adds
// sent_per_second, oldest_queued and last_failed_or_unknown. A decision has decision, meant,
// sending, done and dry_run.
//
// # Exit status
//
// It is 0 if all was done, 1 if something failed or was refused, also by the person who was
// asked, and 2 if the command line is wrong. Errors are on standard error, also with -json.
package main

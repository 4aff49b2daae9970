package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

func (s *Store) checkPostgres(ctx context.Context) error {
	var version int
	var fsync, encoding, isolation string
	var schema sql.NullString
	var durable string
	err := s.transact(ctx, func(ctx context.Context, on runner) error {
		// The schema of the table if it exists, or else the one in which it would be created.
		err := s.query(ctx, on, `SELECT CAST(current_setting('server_version_num') AS integer), current_setting('fsync'),
			current_setting('server_encoding'), current_setting('default_transaction_isolation'),
			coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE c.oid = to_regclass(CAST(@meta AS text))), current_schema())`,
			args{"meta": `"` + s.name + `_meta"`}, func(rows *sql.Rows) error {
				return rows.Scan(&version, &fsync, &encoding, &isolation, &schema)
			})
		if err != nil {
			return err
		}
		return s.query(ctx, on, "SELECT durable, current_setting('synchronous_commit') FROM {durable} AS d", nil, func(rows *sql.Rows) error {
			var set string
			return rows.Scan(&set, &durable)
		})
	})
	switch {
	case err != nil:
		return err
	case version < 140000:
		return message.AsInvalid(fmt.Errorf("outbox: PostgreSQL %d.%d: want version 14 or later", version/10000, version%10000))
	case fsync != "on":
		return message.AsInvalid(errors.New("outbox: this PostgreSQL has fsync = off. A crash would make it forget what it has confirmed, and messages would be sent twice: want fsync = on"))
	case encoding != "UTF8":
		return message.AsInvalid(fmt.Errorf("outbox: this database is encoded as %s: want UTF8, the encoding of the Graph API", encoding))
	case !schema.Valid:
		return message.AsInvalid(errors.New("outbox: the search_path of this connection names no schema that exists: want one, such as public"))
	case durable == "off" || durable == "local":
		return message.AsInvalid(fmt.Errorf("outbox: synchronous_commit is %s and cannot be set: after a crash messages would be sent twice", durable))
	}
	s.explicit = isolation != "read committed"
	s.prefix = `"` + strings.ReplaceAll(schema.String, `"`, `""`) + `"."` + s.name + "_"
	s.compiled.Clear()
	return nil
}

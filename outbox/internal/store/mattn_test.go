//go:build cgo

package store

import _ "github.com/mattn/go-sqlite3" // the driver "sqlite3"

func init() { sqliteDrivers = append(sqliteDrivers, "sqlite3") }

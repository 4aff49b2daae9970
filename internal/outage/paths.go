package outage

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"time"
)

// maxPaths is how many gates of paths a host has at most, since paths have ids in them.
const maxPaths = 10_000

// paths are the gates of those paths of a host that have failed lately. A phone number or
// an endpoint can fail while the host is well. Whether it does is known from other paths
// alone, so a path has a gate only while another one is well. The version of the API tells
// no paths apart.
type paths struct {
	gates map[string]*pathGate
	ups   list.List // those that are up, the one that is for longest first
	swept time.Time

	well [2]wellPath // the last two that had a good answer while anything was watched
	run  string      // the path of all bad answers of the host's run; "": there are several
}

type wellPath struct {
	path string
	at   time.Time
}

type pathGate struct {
	*gate
	place   *list.Element // among those that are up
	lastBad time.Time
	heard   time.Time // when there was the last answer
}

// Key returns what tells a path from others: the path without the version of the API.
func Key(path string) string {
	if len(path) > 2 && path[0] == '/' && path[1] == 'v' && '0' <= path[2] && path[2] <= '9' {
		if end := strings.IndexByte(path[1:], '/'); end > 0 {
			return path[1+end:]
		}
	}
	return path
}

// of returns the gate of a path, nil if it has none.
func (p *paths) of(path string) *gate {
	if g := p.gates[path]; g != nil {
		return g.gate
	}
	return nil
}

// answered takes in an answer of a path.
func (p *paths) answered(now time.Time, path string, isGood bool) {
	if g := p.gates[path]; g != nil {
		g.heard = now
		if !isGood {
			g.lastBad = now
		}
	}
	if !isGood {
		return
	}
	if p.well[0].path != path {
		p.well[1] = p.well[0]
	}
	p.well[0] = wellPath{path, now}
}

// othersAreWell reports whether a path other than that one has been well of late.
func (p *paths) othersAreWell(now time.Time, path string) bool {
	for _, well := range p.well {
		if well.path != path && !well.at.IsZero() && now.Sub(well.at) <= turn {
			return true
		}
	}
	return false
}

// add gives a path a gate, and reports false if there is no room for it.
func (p *paths) add(now time.Time, g *gate) bool {
	if len(p.gates) >= maxPaths && !p.makeRoom() {
		return false
	}
	if p.gates == nil {
		p.gates = map[string]*pathGate{}
	}
	added := &pathGate{gate: g, lastBad: now, heard: now}
	p.gates[g.path] = added
	p.sort(added)
	return true
}

// sort keeps those that are up in the order in which they came to be.
func (p *paths) sort(g *pathGate) {
	switch isUp := g.state == Up; {
	case isUp && g.place == nil:
		g.place = p.ups.PushBack(g)
	case !isUp && g.place != nil:
		p.ups.Remove(g.place)
		g.place = nil
	}
}

// sortAll is sort of the gate of a path, if it has one.
func (p *paths) sortOf(path string) {
	if g := p.gates[path]; g != nil {
		p.sort(g)
	}
}

// makeRoom drops the gate that is up for longest, or else the one that had no answer for
// longest. One with calls that wait or are out stays.
func (p *paths) makeRoom() bool {
	for place := p.ups.Front(); place != nil; place = place.Next() {
		if g := place.Value.(*pathGate); g.isIdle() {
			p.drop(g)
			return true
		}
	}
	var longest *pathGate
	for _, g := range p.gates {
		if g.isIdle() && (longest == nil || g.heard.Before(longest.heard)) {
			longest = g
		}
	}
	if longest == nil {
		return false
	}
	p.drop(longest)
	return true
}

func (g *pathGate) isIdle() bool { return g.queue.len() == 0 && g.out == 0 }

func (p *paths) drop(g *pathGate) {
	if g.place != nil {
		p.ups.Remove(g.place)
	}
	delete(p.gates, g.path)
}

// sweep drops the gates of the paths that are up and have been well for a while, or silent, so
// that calls need not look for a gate for ever.
func (p *paths) sweep(now time.Time) {
	if len(p.gates) == 0 || now.Sub(p.swept) < again/4 {
		return
	}
	p.swept = now
	for place := p.ups.Front(); place != nil; {
		g := place.Value.(*pathGate)
		place = place.Next()
		if g.isIdle() && (g.isWell() && now.Sub(g.lastBad) > again || now.Sub(g.heard) > again) {
			p.drop(g)
		}
	}
}

// clear drops all gates, and returns them.
func (p *paths) clear() map[string]*pathGate {
	gates := p.gates
	*p = paths{swept: p.swept}
	return gates
}

// statuses are those of the paths that are not up, in the order of their names.
func (p *paths) statuses() (statuses []PathStatus) {
	for _, g := range p.gates {
		if g.state != Up {
			statuses = append(statuses, PathStatus{g.status(), g.path})
		}
	}
	slices.SortFunc(statuses, func(a, b PathStatus) int { return cmp.Compare(a.Path, b.Path) })
	return statuses
}

// Package supervise is THE WATCH between the BOINC client and a container.
//
// One goroutine owns all state and changes it in one loop with one select ([Run]). What the client wishes and what happens
// are looked up in two tables: [moves] and [turns]. Whatever takes time runs in a goroutine of its own and comes back as an
// event in the inbox.
//
// The watch knows neither an engine nor shared memory: [Client] and [Session] are what it needs of them.
package supervise

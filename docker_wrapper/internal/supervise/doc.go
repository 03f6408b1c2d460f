// Package supervise is THE WATCH between the BOINC client and a container.
//
// One goroutine owns all state and changes it in one loop with one select ([Run]). What the client wishes and what happens
// are looked up in two tables: [moves] and [turns]. What may take long runs in a goroutine of its own, and its answer
// comes into the inbox. Short calls on the container, and the stop of a container that is parked, are the loop's own and have deadlines.
//
// The watch knows neither an engine nor shared memory: [Client] and [Session] are what it needs of them.
package supervise

// Package supervise is THE WATCH between client and container. One goroutine holds the state and
// changes it in one select; the policy is the table [moves]; everything else only feeds channels.
//
// It knows neither an engine nor shared memory: [Client] and [Container] are what it needs of them.
package supervise

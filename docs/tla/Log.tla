-------------------------------- MODULE Log --------------------------------
(* What is special in how walstore elects and commits (docs/consensus.md):

   - a term belongs to one node, and a durable term is the vote for its owner: there is no vote beside it;
   - entries travel while the leader's own disk still works, and a crash may take any part of what no
     disk has;
   - a vote, and a commit, count only what disks have, the leader's own included.

   The network loses, repeats, delays and reorders: a message that was sent once may be received at any
   time, or never. So messages are kept as what they say: what a leader has ever sent in its term, what
   was acked and granted in it. *)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    MaxTerm, MaxLength,
    EagerAck,    \* the bug of acking what is not on the disk yet
    EagerSelf,   \* the bug of a leader that counts itself before its disk has an entry
    SameTerm,    \* the bug of leading on in the old term after a crash
    AnyLog       \* the bug of granting a vote without a look at the log

VARIABLES
    term,        \* of each node, durable
    role,        \* "follower", "candidate" or "leader"
    log,         \* of each node: the sequence of its entries' terms
    durable,     \* how many of them its disk has
    matched,     \* how many of them are known to be those of its term's leader
    request,     \* for each term: the log for which its owner asked for votes, if it did
    granted,     \* for each term: who gave its vote
    sent,        \* for each term: the entries that its leader has sent
    acked,       \* for each term and node: how many of them it has said its disk has
    decided,     \* the longest log that was ever committed
    agree        \* whether all that was ever committed is of one log

Nodes == <<"a", "b", "c">>

vars == <<term, role, log, durable, matched, request, granted, sent, acked, decided, agree>>

Node == {Nodes[i] : i \in 1..Len(Nodes)}
Term == 1..MaxTerm
Owner(t) == Nodes[((t - 1) % Len(Nodes)) + 1]
IsQuorum(S) == 2 * Cardinality(S) > Len(Nodes)
Min(a, b) == IF a < b THEN a ELSE b
Max(a, b) == IF a > b THEN a ELSE b
Prefix(s, n) == SubSeq(s, 1, n)
IsPrefix(s, t) == Len(s) <= Len(t) /\ Prefix(t, Len(s)) = s
LastTerm(s) == IF s = <<>> THEN 0 ELSE s[Len(s)]
\* s is not behind t.
UpToDate(s, t) == \/ LastTerm(s) > LastTerm(t)
                  \/ LastTerm(s) = LastTerm(t) /\ Len(s) >= Len(t)

Init ==
    /\ term = [n \in Node |-> 0]
    /\ role = [n \in Node |-> "follower"]
    /\ log = [n \in Node |-> <<>>]
    /\ durable = [n \in Node |-> 0]
    /\ matched = [n \in Node |-> 0]
    /\ request = [t \in Term |-> {}]
    /\ granted = [t \in Term |-> {}]
    /\ sent = [t \in Term |-> <<>>]
    /\ acked = [t \in Term |-> [n \in Node |-> 0]]
    /\ decided = <<>>
    /\ agree = TRUE

\* A node takes the next of its terms, makes it durable, and asks with what its disk has.
Campaign(n) == \E t \in Term :
    /\ Owner(t) = n /\ t > term[n]
    /\ \A u \in Term : Owner(u) = n /\ u > term[n] => u >= t
    /\ term' = [term EXCEPT ![n] = t]
    /\ role' = [role EXCEPT ![n] = "candidate"]
    /\ matched' = [matched EXCEPT ![n] = 0]
    /\ request' = [request EXCEPT ![t] = {Prefix(log[n], durable[n])}]
    /\ granted' = [granted EXCEPT ![t] = {n}]
    /\ UNCHANGED <<log, durable, sent, acked, decided, agree>>

\* A higher term is adopted, durably, whatever comes of it.
Adopt(n, t) ==
    /\ term' = [term EXCEPT ![n] = t]
    /\ role' = [role EXCEPT ![n] = IF t > term[n] THEN "follower" ELSE @]
    /\ matched' = [matched EXCEPT ![n] = IF t > term[n] THEN 0 ELSE @]

Vote(n) == \E t \in Term : \E asked \in request[t] :
    /\ Owner(t) # n /\ t >= term[n]
    /\ Adopt(n, t)
    /\ granted' = IF AnyLog \/ UpToDate(asked, log[n])
                  THEN [granted EXCEPT ![t] = @ \union {n}] ELSE granted
    /\ UNCHANGED <<log, durable, request, sent, acked, decided, agree>>

Lead(n) ==
    /\ role[n] = "candidate" /\ IsQuorum(granted[term[n]])
    /\ Len(log[n]) < MaxLength
    /\ role' = [role EXCEPT ![n] = "leader"]
    /\ log' = [log EXCEPT ![n] = Append(@, term[n])]
    /\ sent' = [sent EXCEPT ![term[n]] = Append(log[n], term[n])]
    /\ UNCHANGED <<term, durable, matched, request, granted, acked, decided, agree>>

\* The entry travels at once.
Write(n) ==
    /\ role[n] = "leader" /\ Len(log[n]) < MaxLength
    /\ log' = [log EXCEPT ![n] = Append(@, term[n])]
    /\ sent' = [sent EXCEPT ![term[n]] = Append(log[n], term[n])]
    /\ UNCHANGED <<term, role, durable, matched, request, granted, acked, decided, agree>>

\* Entries from..to of a leader reach a node: it takes them where (previous lsn, previous term) fits,
\* and cuts what differs. What is cut and written again is not on the disk.
Receive(n) == \E t \in Term : \E from \in 1..MaxLength : \E to \in from..MaxLength :
    /\ t >= term[n] /\ Owner(t) # n /\ to <= Len(sent[t])
    /\ from - 1 <= Len(log[n])
    /\ IF from = 1 THEN TRUE ELSE log[n][from - 1] = sent[t][from - 1]
    /\ LET same == IsPrefix(Prefix(sent[t], to), log[n])
           kept == CHOOSE k \in (from - 1)..Min(to, Len(log[n])) :
                       /\ \A i \in from..k : log[n][i] = sent[t][i]
                       /\ k = Min(to, Len(log[n])) \/ log[n][k + 1] # sent[t][k + 1]
       IN /\ log' = IF same THEN log
                    ELSE [log EXCEPT ![n] = Prefix(log[n], kept) \o SubSeq(sent[t], kept + 1, to)]
          /\ durable' = IF same THEN durable ELSE [durable EXCEPT ![n] = Min(@, kept)]
    /\ term' = [term EXCEPT ![n] = t]
    /\ role' = [role EXCEPT ![n] = "follower"]
    /\ matched' = [matched EXCEPT ![n] = IF t > term[n] THEN to ELSE Max(@, to)]
    /\ acked' = [acked EXCEPT ![t][n] =
                     Max(@, IF EagerAck THEN matched'[n] ELSE Min(matched'[n], durable'[n]))]
    /\ UNCHANGED <<request, granted, sent, decided, agree>>

\* An ack that is lost is one that the leader does not act on.
Sync(n) ==
    /\ durable[n] < Len(log[n])
    /\ durable' = [durable EXCEPT ![n] = Len(log[n])]
    /\ acked' = IF role[n] = "follower" /\ matched[n] > 0
                THEN [acked EXCEPT ![term[n]][n] = Max(@, matched[n])] ELSE acked
    /\ UNCHANGED <<term, role, log, matched, request, granted, sent, decided, agree>>

Commit(n) == \E k \in 1..MaxLength :
    /\ role[n] = "leader" /\ k <= Len(log[n]) /\ log[n][k] = term[n]
    /\ EagerSelf \/ durable[n] >= k
    /\ IsQuorum({n} \union {m \in Node : acked[term[n]][m] >= k})
    /\ LET now == Prefix(log[n], k)
       IN /\ ~IsPrefix(now, decided)
          /\ agree' = (agree /\ IsPrefix(decided, now))
          /\ decided' = IF Len(now) > Len(decided) THEN now ELSE decided
    /\ UNCHANGED <<term, role, log, durable, matched, request, granted, sent, acked>>

Crash(n) == \E left \in durable[n]..Len(log[n]) :
    /\ log' = [log EXCEPT ![n] = Prefix(@, left)]
    /\ durable' = [durable EXCEPT ![n] = left]
    /\ matched' = [matched EXCEPT ![n] = 0]
    /\ role' = [role EXCEPT ![n] = IF SameTerm /\ @ = "leader" THEN @ ELSE "follower"]
    /\ UNCHANGED <<term, request, granted, sent, acked, decided, agree>>

Next == \E n \in Node :
    \/ Campaign(n) \/ Vote(n) \/ Lead(n) \/ Write(n) \/ Receive(n)
    \/ Sync(n) \/ Commit(n) \/ Crash(n)

Spec == Init /\ [][Next]_vars

\* What holds.

OneLeader == \A m, n \in Node : role[m] = "leader" /\ role[n] = "leader" /\ term[m] = term[n] => m = n

\* (lsn, term) names one entry, and all before it.
LogMatching == \A m, n \in Node : \A k \in 1..Min(Len(log[m]), Len(log[n])) :
    log[m][k] = log[n][k] => Prefix(log[m], k) = Prefix(log[n], k)

\* A leader holds all that was committed before its term.
LeaderCompleteness == \A n \in Node :
    role[n] = "leader" /\ LastTerm(decided) <= term[n] => IsPrefix(decided, log[n])

\* What is committed stays, is the same everywhere, and a quorum's disks have it.
Agreement == agree
Durability == IsQuorum({n \in Node : IsPrefix(decided, Prefix(log[n], durable[n]))})
=============================================================================

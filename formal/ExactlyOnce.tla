---------------------------- MODULE ExactlyOnce ----------------------------
(* One idempotency key: its record in the store, and the calls that want    *)
(* its answer. A call is a request at a replica of its own. Its name is its *)
(* claim id and, as every run gives other bytes, also the bytes of its run. *)
EXTENDS Naturals, FiniteSets, TLC

CONSTANTS
  Calls,        \* at a time; one that has left no trace is a new one, so there is no end of them
  Prints,       \* fingerprints: different requests under the key
  MaxAttempts,  \* runs before the input is taken for poison
  Flaws         \* what is done wrong: nothing in the protocol, one thing in a mutant

VARIABLES
  record,   \* what the store has
  call,     \* by call: what it waits for or holds, its fingerprint, its number (for one flaw)
  mail,     \* messages to the store of which copies may arrive yet, any number of times
  calm,     \* from here on nothing crashes, stands still, lets go, is copied or ends its retention
  \* Counted within one retention, for which the promise is given:
  answers,  \* final answers returned, and for which fingerprint
  ledger,   \* rows written
  runs      \* runs begun
vars == <<record, call, mail, calm, answers, ledger, runs>>

Flaw(name) == name \in Flaws
None == "none"
Nothing == [by |-> None, print |-> None]
Absent == [state |-> "absent", owner |-> None, print |-> None, live |-> FALSE, attempt |-> 0, body |-> Nothing]
Off == [at |-> "off", print |-> None, number |-> 0]

Init ==
  /\ record = Absent
  /\ call = [c \in Calls |-> Off]
  /\ mail = {}
  /\ calm = FALSE
  /\ answers = {}
  /\ ledger = 0
  /\ runs = 0

-----------------------------------------------------------------------------
(* The store: what a message makes of the record, in one atomic step, and   *)
(* the reply.                                                               *)

Result(reply, next, rows, body) == [reply |-> reply, record |-> next, rows |-> rows, body |-> body]
Refuse(reply) == Result(reply, record, 0, Nothing)
Own(m) == [by |-> m.call, print |-> m.print]
Owns(m) == IF Flaw("number is the fence") THEN record.attempt = m.number ELSE record.owner = m.call
Same(m) == record.print \in {m.print, None}

(* An attempt too many is granted as well, but to store an error, not to run. *)
Grant(m, attempt) ==
  Result(IF attempt > MaxAttempts /\ ~Flaw("no cap") THEN "POISONED" ELSE "GRANTED",
    [Absent EXCEPT !.state = "progress", !.owner = m.call, !.print = m.print, !.live = TRUE, !.attempt = attempt],
    0, Nothing)
Following(attempt) == IF attempt > MaxAttempts THEN attempt ELSE attempt + 1

Claim(m) ==
  CASE record.state = "absent" -> Grant(m, 1)
    [] ~Same(m) -> Refuse("MISMATCH")
    [] record.state = "completed" -> Result("DONE", record, 0, record.body)
    [] record.state = "progress" /\ record.owner = m.call -> Grant(m, record.attempt)
    [] record.live -> Refuse("BUSY")
    [] OTHER -> Grant(m, Following(record.attempt))

MayComplete(m) ==
  \/ Flaw("anything completes")
  \/ record.state = "progress" /\ (Owns(m) \/ Flaw("anybody completes"))
  \/ Owns(m) /\ Flaw("any state completes")

Complete(m) ==
  CASE MayComplete(m) ->
         LET print == IF Flaw("completion drops the fingerprint") THEN None ELSE record.print
         IN Result("OK",
              [record EXCEPT !.state = "completed", !.print = print, !.live = FALSE, !.body = Own(m)], 1, Own(m))
    [] record.state = "completed" /\ Owns(m) -> Result("OK", record, 0, Own(m))
    [] record.state = "completed" /\ (Same(m) \/ Flaw("loser is not compared")) ->
         Result("LOST_DONE", record, 0, record.body)
    [] OTHER -> Refuse("LOST")

(* What is released has not begun to run, so its attempt is given back. *)
Release(m) ==
  IF record.state = "progress" /\ (Owns(m) \/ Flaw("anybody releases"))
  THEN Result("RELEASED",
         IF Flaw("release deletes")
         THEN Absent
         ELSE [record EXCEPT !.state = "released", !.live = FALSE, !.attempt = @ - 1],
         0, Nothing)
  ELSE Refuse("LOST")

Outcome(m) ==
  CASE m.op = "claim" -> Claim(m)
    [] m.op = "complete" -> Complete(m)
    [] m.op = "release" -> Release(m)

-----------------------------------------------------------------------------
(* A call: claim, run, complete, and answer only then.                      *)

Message(op, c) == [op |-> op, call |-> c, print |-> call[c].print, number |-> call[c].number]
Waiting(c) == call[c].at \in {"claim", "complete"}
Request(c) == Message(call[c].at, c)
Requests == {Request(c) : c \in {d \in Calls : Waiting(d)}}

Return(c, body) == answers' = answers \cup {[body |-> body, to |-> call[c].print]}
Leave(c) == call' = [call EXCEPT ![c] = Off]
Send(m) == mail' = IF calm THEN mail ELSE mail \cup {m}

Fresh(c) ==
  /\ call[c] = Off
  /\ c \notin {record.owner, record.body.by}
  /\ \A m \in mail : m.call # c
  /\ \A a \in answers : a.body.by # c

Start(c, print) ==
  /\ Fresh(c)
  /\ call' = [call EXCEPT ![c] = [Off EXCEPT !.at = "claim", !.print = print]]
  /\ UNCHANGED <<record, mail, calm, answers, ledger, runs>>

Hold(c, result) ==
  call' = [call EXCEPT
    ![c].at = IF result.reply = "GRANTED" THEN "held" ELSE "complete",
    ![c].number = IF Flaw("number is the fence") THEN result.record.attempt ELSE 0]

(* The reply to a request reaches its call; a copy of the request may be on *)
(* its way still. DONE, OK and LOST_DONE bring the stored bytes; the rest   *)
(* is no final answer (409, 422, 503), and the client may come again.       *)
Hear(c) ==
  /\ Waiting(c)
  /\ LET result == Outcome(Request(c)) IN
     /\ record' = result.record
     /\ ledger' = ledger + result.rows
     /\ CASE result.reply \in {"GRANTED", "POISONED"} -> Hold(c, result) /\ UNCHANGED answers
          [] result.reply \in {"DONE", "OK"} -> Leave(c) /\ Return(c, result.body)
          [] result.reply = "LOST_DONE" ->
               Leave(c) /\ Return(c, IF Flaw("loser answers") THEN Own(Request(c)) ELSE result.body)
          [] OTHER -> Leave(c) /\ UNCHANGED answers
  /\ Send(Request(c))
  /\ UNCHANGED <<calm, runs>>

(* A request arrives and its reply is lost, or a late or second copy does.  *)
(* Who waits asks again with the same claim id. (A read-back tells what     *)
(* completing again tells, so it is no step of its own.)                    *)
Arrive(m) ==
  LET result == Outcome(m) IN
  /\ record' = result.record
  /\ ledger' = ledger + (IF Flaw("ledger apart") THEN 0 ELSE result.rows)
  /\ UNCHANGED <<call, mail, calm, answers, runs>>

Drop(m) ==
  /\ mail' = mail \ {m}
  /\ UNCHANGED <<record, call, calm, answers, ledger, runs>>

(* A crash in the middle of a run is one after it whose message is lost. *)
Run(c) ==
  /\ call[c].at = "held"
  /\ call' = [call EXCEPT ![c].at = "complete"]
  /\ runs' = runs + 1
  /\ IF Flaw("respond first") THEN Return(c, Own(Message("complete", c))) ELSE UNCHANGED answers
  /\ UNCHANGED <<record, mail, calm, ledger>>

Renew(c) ==
  /\ call[c].at \in {"held", "complete"}
  /\ record.state = "progress" /\ Owns(Message("renew", c))
  /\ record' = [record EXCEPT !.live = TRUE]
  /\ UNCHANGED <<call, mail, calm, answers, ledger, runs>>

LetGo(c) ==
  /\ ~calm
  /\ call[c].at = "held" \/ (call[c].at = "complete" /\ Flaw("release after a run"))
  /\ Leave(c)
  /\ Send(Message("release", c))
  /\ UNCHANGED <<record, calm, answers, ledger, runs>>

(* Its replica dies; or it answers 503 as the outcome stays unknown. *)
Crash(c) ==
  /\ ~calm
  /\ call[c] # Off
  /\ Leave(c)
  /\ mail' = IF Waiting(c) THEN mail \cup {Request(c)} ELSE mail
  /\ UNCHANGED <<record, calm, answers, ledger, runs>>

(* Flaws: what may be made of a completion whose outcome is unknown. *)
Presume(c) ==
  /\ call[c].at = "complete"
  /\ \/ Flaw("unknown is success") /\ Return(c, Own(Request(c)))
     \/ Flaw("unknown is failure") /\ \E d \in Calls : Fresh(d) /\ Return(c, [Own(Request(c)) EXCEPT !.by = d])
  /\ Leave(c)
  /\ Send(Request(c))
  /\ UNCHANGED <<record, calm, ledger, runs>>

-----------------------------------------------------------------------------
(* Time: any of it may pass between two steps.                              *)

(* Nobody need be dead for it: a process may stand still, or a clock jump. *)
Expire ==
  /\ record.live /\ ~Flaw("one time to live")
  /\ calm => call[record.owner] = Off
  /\ record' = [record EXCEPT !.live = FALSE]
  /\ UNCHANGED <<call, mail, calm, answers, ledger, runs>>

(* The retention ends, and with it the promise. Messages stay, and so do    *)
(* calls: a run granted before counts as begun before.                      *)
Forget ==
  /\ ~calm
  /\ record # Absent
  /\ record' = Absent
  /\ call' = [c \in Calls |-> [call[c] EXCEPT !.at = IF @ = "held" THEN "complete" ELSE @]]
  /\ answers' = {} /\ ledger' = 0 /\ runs' = 0
  /\ UNCHANGED <<mail, calm>>

Lose ==
  /\ Flaw("store forgets")
  /\ record' = Absent
  /\ UNCHANGED <<call, mail, calm, answers, ledger, runs>>

Quieten ==
  /\ calm' = TRUE
  /\ UNCHANGED <<record, call, mail, answers, ledger, runs>>

-----------------------------------------------------------------------------

Step ==
  \/ \E c \in Calls :
       \/ \E print \in Prints : Start(c, print)
       \/ Hear(c) \/ Run(c) \/ Renew(c) \/ LetGo(c) \/ Crash(c) \/ Presume(c)
  \/ \E m \in mail \cup Requests : Arrive(m)
  \/ \E m \in mail : Drop(m)
  \/ Expire \/ Forget \/ Lose

Spec == Init /\ [][Step]_vars

(* For liveness: faults end, clients come again, a message arrives or is    *)
(* lost for good, and who waits asks until it hears.                        *)
Fairness ==
  /\ WF_vars(Quieten)
  /\ WF_vars(Expire)
  /\ \A print \in Prints : SF_vars(\E c \in Calls : Start(c, print))
  /\ \A c \in Calls : WF_vars(Hear(c) \/ Run(c)) /\ WF_vars(\E m \in mail : m.call = c /\ Drop(m))
FairSpec == Init /\ [][Step \/ Quieten]_vars /\ Fairness

Symmetry == Permutations(Calls) \cup Permutations(Prints)

-----------------------------------------------------------------------------
(* What is promised.                                                        *)

(* G1: all final answers are the same bytes. *)
OneAnswer == \A a, b \in answers : a.body = b.body

(* G2: one ledger row at most, and one if anybody has an answer. *)
EffectOnce == ledger <= 1 /\ (answers # {} => ledger = 1)

(* What was answered is what the store keeps. *)
AnswerStored == \A a \in answers : record.state = "completed" /\ a.body = record.body

(* G3: another request never gets the answer. *)
MismatchRefused == \A a \in answers : a.body.print = a.to

(* G4 has a bound: an input that kills what runs it runs so many times. *)
RunsBounded == runs <= MaxAttempts

(* Nobody but its owner ends a live claim. *)
NoStolenRelease ==
  [][record.live /\ record'.state = "released" => \E m \in mail : m.op = "release" /\ m.call = record.owner]_vars

(* Who comes again is answered at last, or refused as another request was answered. *)
Answered == \A print \in Prints :
  <>(\/ \E a \in answers : a.to = print
     \/ record.state = "completed" /\ record.print # print)

-----------------------------------------------------------------------------
(* What must be able to happen, or the above says little: each is violated. *)

NobodyLoses == \A c \in Calls : call[c].at = "complete" => record.state # "completed" \/ record.body.by = c
NobodyIsPoisoned == answers = {} \/ record.attempt <= MaxAttempts
NobodyDiesUnheard == record.state = "completed" /\ answers = {} => \E c \in Calls : call[c] # Off
=============================================================================

// Queues calls for the interpreters of one pool and hands each to one that is free.
//
// Problem: callers post to mailboxes, each served by one interpreter (an actor's replica: strict order) or by
// several (whichever is free). A worker that serves many of them must take the calls of each in their order and let
// none of them starve, a call must never wait while somebody who may run it sleeps, and one post must not wake a crowd.
//
// Model: each mailbox is a FIFO. Every post takes a ticket, and mailboxes served by the same set of interpreters share
// one *lane*, which has those of them that are not empty by the tickets of their first calls. An interpreter takes the
// lowest ticket at the front of its lanes, of which it has few however many actors it hosts; but of an actor it may
// take a *row* of short calls, past older ones of other actors, as to change from one to another costs time. Its *seat*
// holds its lanes and its figures. A thread of an idle seat that is woken for a lane has a *claim* on that lane until
// it arrives in take(), and the seat is no longer idle.
//
// An interpreter has several threads that take calls, more than it has calls under way; each has a *desk*. One at a
// time is at work. Others take calls beside that one
//   - once its call waits for another call, when it steps aside (step_aside) until it steps back;
//   - once its call has *stalled*: it sleeps, or waits for a lock or for data, or computes for long. While something is
//     queued that could run beside it, one of those who sleep watches (dispatcher_desks.cpp). An actor that did so
//     lately is expected to do so again.
// An actor runs one call at a time, or as many as it is to, whichever threads its interpreter has. Functions are taken
// one at a time, but for those that wait. Whoever is to be held by a session has nothing else under way but what waits.
//
// Wake-up rule, restored by summon() after every change: a lane with more calls than claims has no idle seat.
//   - A post adds one call and wakes at most one idle seat, chosen by placement.h. A seat is idle while nobody is at
//     work at it and a thread sleeps there.
//   - A busy seat may take the call first; the woken one finds nothing and sleeps again.
//   - A thread that arrives gives its claim back. If it does not take from that lane, as another is at work at its
//     seat by now or something older waits, or if its seat retires, the lane summons another.
//
// A session (pool/session.h) holds a seat, and so does what prepares an interpreter: while it does, the seat takes only
// calls that act in the session, and is summoned for no others. A request for a session queues like a call; the seat
// that takes it is held from then on.
//
// When an interpreter has ended, another may take its seat. What only the old one could take fails then, as it may rely
// on what was in there, but for calls that may be tried again and for mailboxes that outlive interpreters. The new one
// first runs what prepares it.
//
// A mailbox may have a limit: a post beyond it is refused, and the poster may wait for room. A worker that gathers
// calls takes further ones of one mailbox, past those of others, and may wait for them a little.
//
// Threads and locks: take(i) and finished(i, …) on threads of interpreter i; all else from any thread. One
// mutex guards mailboxes, lanes, seats and desks. While it is held nothing is called out to, no call is cancelled, and
// no reference to a call is dropped (that may run a tensor's release, which may come back as wake()). The
// figures of a seat are atomics. Sleepers wait on a futex word of their own.
//
// Guarantees: a call is delivered at most once; those of one mailbox in the order of their posts (with several
// servers: in that order to whoever takes them), but for calls that a held seat takes before others; after close(),
// which ends all holds, what is queued is still delivered.
// A call that ended while queued is skipped; it counts as queued no longer, but keeps its place until a worker comes
// across it, or a post finds many of them. One that was taken to go on aside counts until it begins.
//
// Without memory: what is noexcept needs none, so that what ends comes to its end. What throws std::bad_alloc has
// changed nothing, and no call that was taken out is forgotten: there was room for it before (task/call_list.h).
//
// Rejected: a call that waits runs the one it waits for on its own thread. It halves the 30 µs of two changes of
// threads. But it finds there what torch and Python keep for a thread and nobody can exchange (autocast's cache,
// functorch's levels, what is left for recursion), and the one that waits hears of nothing before it ends.
#pragma once

#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/brief_mutex.h"
#include "base/busy_time.h"
#include "base/export.h"
#include "task/call.h"
#include "task/call_list.h"
#include "task/holding.h"

namespace multipy {

class MULTIPY_API Dispatcher {
  struct Lane;

 public:
  using MailboxId = std::uint64_t;
  using Calls = std::vector<std::shared_ptr<Call>>;

  struct Delivery {
    enum Kind {
      call_ready,
      woken,  // wake() was called: look at the return queue, then take() again
      closed  // nothing will ever come: the worker may end
    };
    Kind kind = closed;
    MailboxId mailbox = 0;
    std::shared_ptr<Call> call = nullptr;
    bool is_last = false;  // nobody is left to watch: another thread is to be started
  };

  struct Statistics {
    std::uint64_t done = 0;           // calls that ran, the failed ones included
    std::uint64_t failed = 0;         // of these, those that raised
    std::uint64_t queued = 0;         // calls that only this interpreter can take
    std::uint64_t queued_shared = 0;  // calls that it or others can take
    std::chrono::nanoseconds busy{};  // at calls, between two take(), and in code of its event loop; up to now
  };

  /// Where one thread of an interpreter takes calls. All but the sleep is guarded by the dispatcher's mutex.
  struct Desk {
    explicit Desk(RunnerId who = 0, bool is_main = true, RunnerId place = 0)
        : runner(who), home(place == 0 ? who : place), main(is_main) {}
    const RunnerId runner;       // whose it is; 0: the dispatcher knows no runners
    const RunnerId home;         // the runner of its interpreter's first thread
    const bool main;             // the first thread of its interpreter, the last to be told of the end
    bool sits = false;           // its thread has taken calls, and its seat is open
    bool gone = false;           // its interpreter has lost the seat
    bool at_work = false;        // has a call that neither waits nor has stalled, or is on its way to one
    bool waits = false;          // its call does, for another
    bool expects_stall = false;  // its call will, by what calls of its mailbox did lately
    std::vector<std::weak_ptr<Call>> in_hand{};  // what was delivered last, and those that run with it
    Clock::time_point started{};                 // when that was
    int cpu = -1;                                // where its thread went to sleep
    std::uint64_t actor = 0;                     // whose call it has; 0: none's
    std::size_t at_once = 1;                     // so many of these may run at once, as far as that call goes
    MailboxId mailbox = 0;                       // from which it came
    MailboxId row = 0;                           // from which it took the last calls, one after the other
    int in_row = 0;                              // how many
    Clock::time_point row_began{};               // when it took the first of them
    std::uint64_t in_force = 0;                  // the actor whose state its thread keeps, between calls too; 0: none's
    Holdings preparing = nullptr;                // what it has prepares the interpreter, and holds the seat
    Lane* claim = nullptr;             // for which its thread was roused; until it arrives, or that is dropped
    clockid_t clock{};                 // the CPU time of its thread
    Clock::time_point seen{};          // when whoever watches looked last,
    std::chrono::nanoseconds used{};   // and how much of that it had used
    std::atomic<int> caller_cpu = -1;  // where it was last roused from
    // The futex word: set by the thread, cleared by whoever rouses it. Apart from the rest, as its thread looks at it
    // all the time before it sleeps, and others change what they share a cache line with.
    alignas(64) std::atomic<std::uint32_t> asleep = 0;
  };

  /// What holds up the end of an interpreter.
  struct HoldUp {
    bool owes = false;        // somebody may wait for a call that it has taken
    bool is_needed = false;   // somebody may wait for a call that it can take
    bool given_up = false;    // it is at a call that has ended, by its time limit say, or was killed
    bool closed = false;      // it was told that nothing will come
    std::uint64_t taken = 0;  // how many it has taken
    std::string label;        // whose call it has taken last, if it is at one
    Clock::duration busy{};   // how long it is at that, or at its end
  };

  /// `runners` are the interpreters' workers, if they can wait for calls themselves.
  explicit Dispatcher(std::size_t interpreters, Servers runners = {});
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  std::size_t interpreters() const noexcept { return count_; }

  // For callers.
  /// A FIFO served by `interpreters`. Throws Error if there are none or one does not exist, ClosedError after
  /// close() or if all of them have retired.
  /// At most `limit` calls wait in it, 0: any number. With `outlives`, they wait for who replaces its interpreters,
  /// too.
  MailboxId open_mailbox(std::vector<std::size_t> interpreters, std::size_t limit = 0, bool outlives = false);
  /// No more posts to it; returns the calls still queued, pending, for the caller to abandon or cancel.
  CallList close_mailbox(MailboxId mailbox) noexcept;
  /// No more posts to it; what is queued is still delivered, and then it is gone.
  void close_mailbox_when_empty(MailboxId mailbox) noexcept;
  /// Whether short calls of it may be taken in a row, past older ones of other mailboxes of which that holds; at first
  /// not. For an actor that has no other mailbox.
  void allow_rows(MailboxId mailbox, bool allowed) noexcept;
  /// `interpreter` no longer serves it; true if nobody does, and then posts to it throw. What nobody can take any
  /// more is moved to `calls`, pending.
  bool leave(MailboxId mailbox, std::size_t interpreter, CallList& calls);
  /// Throws ClosedError if the dispatcher or the mailbox is closed, or nobody is left to serve it, and FullError if
  /// it has reached its limit, unless `limited` is false.
  void post(MailboxId mailbox, std::shared_ptr<Call> call, bool limited = true);
  /// Posts it to a mailbox of its own, which only `interpreter` serves and which goes with it. Throws as the two above.
  void post_alone(std::size_t interpreter, std::shared_ptr<Call> call);
  /// Queues a request for one of the servers of `mailbox` to be held by `session`, which acts in those of `call`. If
  /// one of these holds a server already and no other is idle, that one is held once more. `call` succeeds with the
  /// interpreter's index. Throws as post().
  void request(MailboxId mailbox, std::shared_ptr<Call> call, std::uint64_t session);
  /// Whoever is held by `session` takes all calls again; nothing if nobody is.
  void release(std::uint64_t session) noexcept;
  /// Sleeps until there may be room in `mailbox`, or nobody accepts posts to it any more. Throws DeadlockError if there
  /// never could be; it names the mailbox, which is that of `actor`, by `label`. That runs `at_once` calls.
  WaitResult wait_for_room(MailboxId mailbox, Deadline deadline, const std::string& label = {}, std::uint64_t actor = 0,
                           std::size_t at_once = 1);
  /// Calls waiting in `mailbox`; 0 if there is no such mailbox.
  std::size_t queued(MailboxId mailbox) const;
  /// The interpreters that serve it.
  std::vector<std::size_t> servers(MailboxId mailbox) const;
  /// Interpreters that sleep in take(), with nothing on its way to them.
  std::size_t idle() const;
  Statistics statistics(std::size_t interpreter) const;
  HoldUp hold_up(std::size_t interpreter) const;
  /// Whether its first thread was told that nothing will come.
  bool was_told_of_end(std::size_t interpreter) const noexcept;

  // For the threads of interpreter `interpreter` that take calls.
  /// Sleeps until there is something to do at `desk`. Housekeeping goes first, then the oldest call.
  Delivery take(std::size_t interpreter, Desk& desk);
  /// For an interpreter with one such thread.
  Delivery take(std::size_t interpreter) { return take(interpreter, seat_at(interpreter).first_desk); }
  /// The call at `desk` waits: others may be taken until step_back(). False if nobody sleeps who could, and another
  /// thread is to be started. Nothing if the desk is not at work.
  bool step_aside(std::size_t interpreter, Desk& desk);
  void step_back(std::size_t interpreter, Desk& desk) noexcept;
  /// The thread of `desk` keeps the state of `actor` from here on, and no longer that of another; 0: of none.
  void keeps_state(std::size_t interpreter, Desk& desk, std::uint64_t actor) noexcept;
  /// Another thread was started, and will take calls; or `comes` no more.
  void expect_thread(std::size_t interpreter, bool comes = true) noexcept;
  /// One more call of `mailbox`, after take() delivered one of it; null if none comes by `deadline`. With `first` it is
  /// one of the same batch: null if the next one is not, or `first` is of none. For the figures it is part of the call
  /// that take() delivered.
  std::shared_ptr<Call> take_more(std::size_t interpreter, Desk& desk, MailboxId mailbox, Clock::time_point deadline,
                                  const Call* first = nullptr);
  std::shared_ptr<Call> take_more(std::size_t interpreter, MailboxId mailbox, Clock::time_point deadline,
                                  const Call* first = nullptr) {
    return take_more(interpreter, seat_at(interpreter).first_desk, mailbox, deadline, first);
  }
  /// Ends the call that take() delivered last, for the figures.
  void finished(std::size_t interpreter, bool ok) noexcept;
  /// Counts a call that ended aside, while the worker did other things; any thread.
  void finished_aside(std::size_t interpreter, bool ok) noexcept;
  /// Whether code runs on the event loop from here on, for the figures; on its thread.
  void event_loop_runs(std::size_t interpreter, bool runs) noexcept;

  // For the pool.
  /// Makes one take(), the one under way or the next, return `woken`.
  void wake(std::size_t interpreter);
  /// No more posts; workers get `closed` once nothing that they serve is left.
  void close() noexcept;
  /// Takes out every queued call and cancels it; returns those that it cancelled.
  CallList cancel_pending() noexcept;
  /// The interpreter has ended: it is handed nothing more. Returns the calls nobody can serve any more,
  /// pending, for the caller to abandon.
  CallList retire(std::size_t interpreter) noexcept;
  /// The interpreter has ended, and one whose worker is `runner` will take its seat. Returns the calls that do not wait
  /// for it, pending, for the caller to abandon; `in_hand` becomes what the threads of the old one had in hand.
  CallList replace(std::size_t interpreter, RunnerId runner, Calls* in_hand = nullptr);
  /// Whether calls are queued that would wait for who replaces the interpreter.
  bool awaits_another(std::size_t interpreter) const;
  /// What its threads have in hand.
  Calls in_hand(std::size_t interpreter) const;
  /// The same one by one, without memory for all: the next one of an interpreter that is handed nothing more; null:
  /// there is none. `place` is where the last one was.
  struct Place {
    const Desk* desk = nullptr;
    std::size_t index = 0;
  };
  std::shared_ptr<Call> next_in_hand(std::size_t interpreter, Place& place) const noexcept;
  /// Calls that were taken back go to the front of their mailboxes. Returns those whose mailboxes are gone, that nobody
  /// will take any more, or for which there is no memory, pending.
  CallList put_back(CallList calls) noexcept;
  /// The interpreter is handed these before all others.
  void put_first(std::size_t interpreter, const Calls& calls);
  /// Whether `interpreter` is held by `session`.
  bool holds(std::uint64_t session, std::size_t interpreter) const;

 private:
  using Interpreters = std::vector<std::size_t>;
  using Ticket = std::int64_t;
  struct Mailbox;
  struct Signals : Backlog {
    std::atomic<std::uint32_t> arrivals = 0;   // a call was posted
    std::atomic<std::uint32_t> gatherers = 0;  // who waits for that
  };

  // All guarded by mutex_, except where a member says otherwise.
  struct Queued {
    Ticket ticket;
    std::shared_ptr<Call> call;
    std::uint64_t session = 0;  // that asks to hold whoever takes this; 0: it is an ordinary call
  };

  struct Lane {
    const Interpreters* servers;       // the key under which lanes_ holds this lane
    std::shared_ptr<Servers> runners;  // the same; guarded by the graph of waits
    std::size_t live;                  // servers that have not retired
    std::size_t mailboxes = 0;
    std::size_t claims = 0;
    std::size_t queued = 0;                          // calls in its mailboxes
    std::size_t in_order = 0;                        // of these, those that others must not be taken past
    std::set<std::pair<Ticket, Mailbox*>> fronts{};  // those that are not empty
  };

  struct Mailbox {
    Lane* lane;
    MailboxId id;
    std::size_t limit = 0;
    bool closing = false;
    bool rows = false;                           // a few of its calls may be taken in a row
    bool outlives = false;                       // the interpreters that serve it
    std::uint8_t stalls = 0;                     // how many of its next calls are expected to stall
    std::deque<Queued> calls{};                  // by ticket; those that have ended included
    std::optional<Ticket> front = std::nullopt;  // under which its lane has it
    Mailbox* next_emptied = nullptr;             // of those that are to be dropped
    std::shared_ptr<Signals> signals = std::make_shared<Signals>();

    /// How many wait.
    std::size_t open() const noexcept {
      const auto waiting = static_cast<std::int64_t>(calls.size()) - signals->ended.load() + signals->aside.load();
      return static_cast<std::size_t>(std::max<std::int64_t>(0, waiting));
    }
    bool is_full() const noexcept { return limit > 0 && open() >= limit; }
    /// Puts a call at its end, or with `first` before all others. If there is no memory for that, it is in `queued`
    /// still.
    void put(Queued& queued, bool first = false);
    /// Takes a call out, and the rest is where it belongs.
    Queued take(std::deque<Queued>::iterator place) noexcept;
    /// Moves all of which `is_meant` holds to `calls`.
    template <typename IsMeant>
    void take_all(IsMeant is_meant, CallList& calls) noexcept;
    /// Its lane counts so many calls more.
    void count(std::ptrdiff_t more) noexcept;
    /// Its lane has it under the ticket of its first call. May throw if it had none before.
    void settle();
  };

  /// Mailboxes that are to be dropped, linked with each other.
  struct Emptied {
    Mailbox* first = nullptr;
    void add(Mailbox& mailbox) noexcept { mailbox.next_emptied = std::exchange(first, &mailbox); }
  };

  struct alignas(64) Seat {
    std::vector<Lane*> lanes;
    std::vector<std::uint64_t> holders;       // sessions; the outer ones first
    std::deque<std::shared_ptr<Call>> first;  // what it is handed before all else
    std::atomic<RunnerId> runner = 0;         // whose it is; 0: the dispatcher knows no runners
    Desk first_desk;                          // of who has none of its own
    std::vector<Desk*> desks;                 // whose threads take calls; their workers have them, for the pool's life
    std::vector<Desk*> asleep;                // of these, in the order in which they went to sleep
    Desk* watch = nullptr;                    // of these, looks whether who is at work has stalled
    std::size_t at_work = 0;                  // of `desks`
    std::size_t expected = 0;                 // threads that were started and have not come yet
    std::uint64_t taken = 0;
    bool idle = false;  // nobody is at work, and somebody sleeps
    bool woken = false;
    bool retired = false;
    bool closed = false;                  // take() has said so to the last one
    Clock::time_point closed_at;          // when it did
    std::atomic<std::uint64_t> done = 0;  // these two: written by its threads, read by anybody
    std::atomic<std::uint64_t> failed = 0;
    BusyTime busy;
  };

  Seat& seat_at(std::size_t interpreter) const;
  /// Whether `call` acts in a session that holds `seat`.
  static bool acts_in(const Call& call, const Seat& seat) noexcept;

  /// Whether something is under way at a desk of `seat` beside which this is not to run; or its actor's state is kept
  /// by the interpreter's first thread, and it is not that which `is_first`, that would take it.
  static bool is_busy(const Seat& seat, const Queued& queued, bool is_first) noexcept;
  /// Whether the interpreter's first thread is among those that sleep at `seat`, and so the next to take something.
  static bool first_is_next(const Seat& seat) noexcept;
  static Calls in_hand_at(const Seat& seat);
  static std::size_t count_in_hand(const Seat& seat) noexcept;
  /// Adds what is in hand at `desk` to `calls`, which have room for it.
  static void add_in_hand(const Desk& desk, Calls& calls) noexcept;
  /// Whether something is queued that could be taken at `seat` now, if nobody was at work.
  static bool has_something(const Seat& seat);

  // With the mutex held. The desks returned, if any, are to be passed to notify() once it is free.
  /// Has the best idle server of `lane` come for it, if it has more calls than claims.
  /// `cpu` is set to where that server went idle.
  Desk* summon(Lane& lane, int* cpu = nullptr);
  /// Gives back the claim of `desk`; for which lane it was, or null.
  static Lane* take_back_claim(Desk& desk) noexcept;
  /// Which of those who sleep at `seat` is the one to be roused.
  static std::size_t best_sleeper(const Seat& seat) noexcept;
  /// One who sleeps at `seat` is to be at work, if it is idle.
  Desk* rouse(Seat& seat);
  Desk* rouse(Seat& seat, std::size_t sleeper);
  /// Whether another thread may take calls at `seat`, though one may be started for a call that waits in any case.
  static bool has_room(const Seat& seat) noexcept;
  /// Rouses and notifies all of them.
  void rouse_all(Seat& seat) noexcept;
  /// Whether the first thread of the interpreter takes what there is, and not the one of `desk`, as it slept. If it is
  /// to be notified it becomes `first`.
  bool leaves_to_first(Seat& seat, const Desk& desk, Desk*& first);
  /// Has one who sleeps at `seat` watch, if there is a reason and nobody does.
  static Desk* set_watch(Seat& seat);
  Desk* set_watch(const Lane& lane);
  /// What whoever watches sees.
  enum class Sight { nothing_to_do, progress, stalled };
  static Sight look(Seat& seat);
  /// Who is at work at `seat` has stalled.
  void set_stalled(Seat& seat);
  /// Wakes an idle server that is held by a session in which `call`, just queued in `lane`, acts.
  Desk* rouse_held(const Lane& lane, const Call& call);
  /// Whether one of those who sleep at `seat` and are not its first thread has to stay, as there is no other.
  static bool is_needed(const Seat& seat) noexcept;
  void set_at_work(Seat& seat, Desk& desk, bool at_work);
  /// Notes whether it is idle.
  void settle(Seat& seat);
  /// What was delivered at `desk` is over.
  static void clear(Seat& seat, Desk& desk);
  /// The thread of `desk` takes nothing more; the main one, if it is to hear of that, is to be notified.
  Desk* leave(Seat& seat, Desk& desk);
  /// The thread of `desk` is about to sleep, and can be roused. It watches if it is told to, or there is a reason.
  void lie_down(Seat& seat, Desk& desk, bool watches);
  /// Whether something is queued at `seat`, and something is under way there.
  static bool may_be_held_up(const Seat& seat) noexcept;
  /// Sleeps until it is roused, or has seen that calls are to be taken; false if it is to end, as it was not needed for
  /// long. Without the mutex, which it has afterwards.
  bool sleep(Seat& seat, Desk& desk, std::unique_lock<BriefMutex>& lock);
  /// Puts `queued` into `box`'s lane, with a ticket, and finds somebody for it. Calls that have ended may be swept out,
  /// into `ended`.
  Desk* queue(Mailbox& box, Queued& queued, CallList& ended);
  /// The mailbox, if it accepts posts; else throws.
  Mailbox& open_for_posts(MailboxId mailbox);
  /// The mailbox of the oldest call for `seat` among those of `lane`, and where it is in there; null if there is none.
  /// `is_first`: for its first thread.
  static std::pair<Mailbox*, std::deque<Queued>::iterator> oldest_for(const Seat& seat, const Lane& lane,
                                                                      bool is_first);
  /// The same for the mailbox of which `desk` is at a row of calls, if the row goes on.
  std::pair<Mailbox*, std::deque<Queued>::iterator> next_in_row(const Seat& seat, const Desk& desk);
  /// Takes the next call for `seat` that has not ended, and says from which lane, or null if there is none.
  /// Those that have ended are moved to `ended`; mailboxes to drop are added to `emptied`. `session` is that of a
  /// request.
  Lane* pick(Seat& seat, Desk& desk, Delivery& delivery, std::uint64_t& session, CallList& ended,
             Emptied& emptied) noexcept;
  /// Takes the first of what is handed to `seat` before all else; false if there is none that has not ended.
  static bool take_first(Seat& seat, Desk& desk, Delivery& delivery, CallList& ended) noexcept;
  /// There is room for what take() may deliver.
  static void make_room(Seat& seat, Desk& desk);
  static void deliver(Seat& seat, Desk& desk, MailboxId mailbox, const std::shared_ptr<Call>& call) noexcept;
  static void take_out_first(Seat& seat, CallList& calls) noexcept;
  Lane& lane_of(Interpreters interpreters);
  void drop_lane(Lane& lane) noexcept;
  void drop_mailbox(Mailbox& mailbox) noexcept;
  /// A call has left `mailbox`; true if it is to be dropped now, which may take its lane along.
  static bool taken_from(Mailbox& mailbox) noexcept;
  /// Moves the calls of `mailbox` that have ended to `ended`, if they are many.
  static void sweep(Mailbox& mailbox, CallList& ended) noexcept;
  void drop_mailboxes(Emptied& emptied) noexcept;
  /// Has all who wait for room or arrivals in `mailbox` look around.
  static void disturb(Mailbox& mailbox) noexcept;
  /// Moves the calls of `lane` to `calls`, all or those that are not to wait for a new server.
  static void take_out(Lane& lane, bool all, CallList& calls, Emptied& emptied) noexcept;
  /// Whether it waits for who replaces the interpreters that serve its mailbox.
  static bool waits_for_another(const Mailbox& mailbox, const Queued& queued) {
    return mailbox.outlives || queued.call->may_be_retried();
  }

  static void notify(Desk* desk) noexcept;
  /// Cancelled or abandoned while it waited.
  static bool has_ended(const std::shared_ptr<Call>& call) { return call->state() != CallState::pending; }
  /// Tells who asked for `session` that `interpreter` is held, or lets go of it if nobody wants it any more.
  void grant(Call& call, std::uint64_t session, std::size_t interpreter);

  const std::size_t count_;
  const std::unique_ptr<Seat[]> seats_;

  mutable BriefMutex mutex_;
  std::unordered_map<MailboxId, Mailbox> mailboxes_;
  std::map<Interpreters, Lane> lanes_;
  std::size_t idle_ = 0;  // seats that are idle
  Ticket next_ticket_ = 0;
  Ticket next_first_ticket_ = -1;  // of what goes to the front again
  MailboxId next_mailbox_ = 1;
  bool closed_ = false;
};

}  // namespace multipy

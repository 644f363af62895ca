package millrace.bench.nexmark;

import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.CoGroupFunction;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.BasicTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.typeutils.TupleTypeInfo;
import org.apache.flink.cep.CEP;
import org.apache.flink.cep.functions.PatternProcessFunction;
import org.apache.flink.cep.nfa.aftermatch.AfterMatchSkipStrategy;
import org.apache.flink.cep.pattern.Pattern;
import org.apache.flink.cep.pattern.conditions.IterativeCondition;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** The queries of bench/nexmark on the DataStream API. */
public final class Queries {
    private Queries() {}

    /** A query behind a stream of events; forward keeps keyed operators in the task of their source. */
    public interface Query {
        DataStream<Row> build(DataStream<NexmarkEvent> events, boolean forward);
    }

    /** A query, what it is, and whether it looks at bids one by one; events is how many take about a second. */
    public record Named(String name, String about, boolean each, long events, Query query) {}

    public static List<Named> all() {
        return List.of(
                new Named("q0", "pass bids through", true, 3_000_000, (in, f) -> each(in, new Pass())),
                new Named("q1", "bids in another currency", true, 3_000_000, (in, f) -> each(in, new Euros())),
                new Named("q2", "bids for some auctions", true, 3_000_000, (in, f) -> each(in, new Some())),
                new Named("q5", "auctions with the most bids in 10 s, every 2 s", false, 1_000_000, Queries::q5),
                new Named("q7", "highest bid of each 10 s", false, 1_000_000, Queries::q7),
                new Named("q8", "people who opened an auction within 10 s of registering", false, 1_000_000, Queries::q8),
                new Named("q11", "bids per session of a bidder, gap 10 s", false, 1_000_000, Queries::q11),
                new Named("q13", "bids joined with a bounded table", true, 3_000_000, (in, f) -> each(in, new Side())),
                new Named("q14", "calculation and filter with a user's function", true, 3_000_000, (in, f) -> each(in, new Calculation())),
                new Named("q17", "statistics of each auction and day, after each bid", false, 1_000_000, Queries::q17),
                new Named("q18", "last bid of each bidder and auction", false, 1_000_000, Queries::q18),
                new Named("q19", "the ten highest bids of each auction", false, 1_000_000, Queries::q19),
                new Named("q21", "channel of each bid", true, 3_000_000, (in, f) -> each(in, new Channel())),
                new Named("q22", "directories of each bid's URL", true, 3_000_000, (in, f) -> each(in, new Directories())),
                new Named("cep0", "a bidder's three rising bids in a row, within 10 s", false, 200_000, Queries::cep0),
                new Named("cep1", "a bid, and a higher one of another bidder for the same auction, within 10 s", false, 200_000, Queries::cep1),
                new Named("cep2", "a bid after which an auction has none for 2 s", false, 200_000, Queries::cep2),
                new Named("cep3", "a fall of prices of an auction and its recovery", false, 200_000, Queries::cep3));
    }

    /** A query that looks at bids one by one. The row is the same one again and again. */
    private abstract static class Each extends RichFlatMapFunction<NexmarkEvent, Row> {
        private transient Row row;

        @Override
        public void open(OpenContext context) throws Exception {
            row = new Row();
        }

        @Override
        public void flatMap(NexmarkEvent e, Collector<Row> out) {
            if (e.kind == NexmarkEvent.BID && row(e.bid, row)) {
                out.collect(row);
            }
        }

        /** Makes a row of a bid, or tells that there is none. */
        abstract boolean row(NexmarkEvent.Bid b, Row row);
    }

    private static DataStream<Row> each(DataStream<NexmarkEvent> in, Each f) {
        return in.flatMap(f).returns(Row.TYPE);
    }

    private static final class Pass extends Each {
        @Override
        boolean row(NexmarkEvent.Bid b, Row row) {
            row.set(b, "");
            return true;
        }
    }

    private static long euros(long price) {
        return price * 908 / 1000;
    }

    private static final class Euros extends Each {
        @Override
        boolean row(NexmarkEvent.Bid b, Row row) {
            row.set(b, "").c = euros(b.price);
            return true;
        }
    }

    private static final class Some extends Each {
        @Override
        boolean row(NexmarkEvent.Bid b, Row row) {
            row.set(b, "");
            return b.auction % 123 == 0;
        }
    }

    private static final class Side extends Each {
        private static final int ROWS = 10_000;

        private transient String[] table;

        @Override
        public void open(OpenContext context) throws Exception {
            super.open(context);
            table = new String[ROWS];
            for (int i = 0; i < ROWS; i++) {
                table[i] = "row-" + (char) ('a' + i % 26);
            }
        }

        @Override
        boolean row(NexmarkEvent.Bid b, Row row) {
            row.set(b, table[(int) (b.auction % ROWS)]);
            return true;
        }
    }

    private static final class Calculation extends Each {
        @Override
        boolean row(NexmarkEvent.Bid b, Row row) {
            long price = euros(b.price);
            if (price <= 1_000_000 || price >= 50_000_000) {
                return false;
            }
            row.set(b, timeOfDay(b.at)).c = price;
            row.d = b.extra.chars().filter(c -> c == 'c').count();
            return true;
        }

        private static String timeOfDay(long ms) {
            int h = Instant.ofEpochMilli(ms).atOffset(ZoneOffset.UTC).getHour();
            if (h >= 8 && h <= 18) {
                return "dayTime";
            }
            return h <= 6 || h >= 20 ? "nightTime" : "otherTime";
        }
    }

    private static final class Channel extends Each {
        private static final String PARAMETER = "channel_id=";

        @Override
        boolean row(NexmarkEvent.Bid b, Row row) {
            String id = id(b);
            row.set(b, id);
            return id != null;
        }

        private static String id(NexmarkEvent.Bid b) {
            switch (b.channel) {
                case "Apple":
                    return "0";
                case "Google":
                    return "1";
                case "Facebook":
                    return "2";
                case "Baidu":
                    return "3";
                default:
            }
            int at = b.url.indexOf(PARAMETER);
            if (at < 0) {
                return null;
            }
            int end = b.url.indexOf('&', at);
            return b.url.substring(at + PARAMETER.length(), end < 0 ? b.url.length() : end);
        }
    }

    private static final class Directories extends Each {
        @Override
        boolean row(NexmarkEvent.Bid b, Row row) {
            row.set(b, directories(b.url));
            return true;
        }

        /** The fourth to sixth part between slashes. */
        private static String directories(String url) {
            int from = slash(url, -1, 3);
            int to = from < 0 ? -1 : slash(url, from, 2);
            if (to < 0) {
                return "";
            }
            int end = url.indexOf('/', to + 1);
            return url.substring(from + 1, end < 0 ? url.length() : end);
        }

        private static int slash(String s, int at, int n) {
            for (; n > 0; n--) {
                at = s.indexOf('/', at + 1);
                if (at < 0) {
                    return -1;
                }
            }
            return at;
        }
    }

    /** Bids without their texts, as few bytes as the queries need: what Flink's planner would do by itself. */
    private static DataStream<Offer> offers(DataStream<NexmarkEvent> in, boolean forward) {
        return in.flatMap(new ToOffer(forward)).returns(Offer.TYPE).setParallelism(1);
    }

    /** Makes the same offer again and again where the exchange copies it. */
    private static final class ToOffer extends RichFlatMapFunction<NexmarkEvent, Offer> {
        private final boolean kept;
        private transient Offer o;

        ToOffer(boolean kept) {
            this.kept = kept;
        }

        @Override
        public void open(OpenContext context) {
            o = new Offer();
        }

        @Override
        public void flatMap(NexmarkEvent e, Collector<Offer> out) {
            if (e.kind != NexmarkEvent.BID) {
                return;
            }
            Offer o = kept ? new Offer() : this.o;
            o.set(e.bid);
            out.collect(o);
        }
    }

    private static <T, K> KeyedStream<T, K> keyed(DataStream<T> in, KeySelector<T, K> key, TypeInformation<K> type, boolean forward) {
        return forward ? DataStreamUtils.reinterpretAsKeyedStream(in, key, type) : in.keyBy(key, type);
    }

    private static KeyedStream<Offer, Long> byAuction(DataStream<NexmarkEvent> in, boolean forward) {
        return keyed(offers(in, forward), o -> o.auction, BasicTypeInfo.LONG_TYPE_INFO, forward);
    }

    private static KeyedStream<Offer, Long> byBidder(DataStream<NexmarkEvent> in, boolean forward) {
        return keyed(offers(in, forward), o -> o.bidder, BasicTypeInfo.LONG_TYPE_INFO, forward);
    }

    private static final TypeInformation<Tuple2<Long, Long>> PAIR = new TupleTypeInfo<>(BasicTypeInfo.LONG_TYPE_INFO, BasicTypeInfo.LONG_TYPE_INFO);

    private static final class Counting implements AggregateFunction<Offer, Values.Counted, Values.Counted> {
        @Override
        public Values.Counted createAccumulator() {
            return new Values.Counted();
        }

        @Override
        public Values.Counted add(Offer o, Values.Counted c) {
            c.bids++;
            c.last = Math.max(c.last, o.n);
            return c;
        }

        @Override
        public Values.Counted getResult(Values.Counted c) {
            return c;
        }

        @Override
        public Values.Counted merge(Values.Counted a, Values.Counted b) {
            a.bids += b.bids;
            a.last = Math.max(a.last, b.last);
            return a;
        }
    }

    /** Says which key and window a count is of. */
    private static final class OfWindow extends ProcessWindowFunction<Values.Counted, Values.Counted, Long, TimeWindow> {
        @Override
        public void process(Long key, Context context, Iterable<Values.Counted> counts, Collector<Values.Counted> out) {
            Values.Counted c = counts.iterator().next();
            c.key = key;
            c.start = context.window().getStart();
            c.end = context.window().getEnd();
            out.collect(c);
        }
    }

    private static DataStream<Row> q5(DataStream<NexmarkEvent> in, boolean forward) {
        DataStream<Values.Counted> counts = byAuction(in, forward).window(SlidingEventTimeWindows.of(Duration.ofSeconds(10), Duration.ofSeconds(2)))
                .aggregate(new Counting(), new OfWindow(), Values.Counted.TYPE, Values.Counted.TYPE, Values.Counted.TYPE);
        // The results of one window have the time of its last moment: the window of 2 s that ends there holds them all.
        return keyed(counts, c -> 0, BasicTypeInfo.INT_TYPE_INFO, forward).window(TumblingEventTimeWindows.of(Duration.ofSeconds(2)))
                .aggregate(new Hottest(), new MostRows(), Values.Most.TYPE, Values.Most.TYPE, Row.TYPE).setParallelism(1);
    }

    private static final class Hottest implements AggregateFunction<Values.Counted, Values.Most, Values.Most> {
        @Override
        public Values.Most createAccumulator() {
            return new Values.Most();
        }

        @Override
        public Values.Most add(Values.Counted c, Values.Most m) {
            m.add(c.key, c.bids, c.last);
            return m;
        }

        @Override
        public Values.Most getResult(Values.Most m) {
            return m;
        }

        @Override
        public Values.Most merge(Values.Most a, Values.Most b) {
            for (int i = 0; i < b.n; i++) {
                a.add(b.auctions[i], b.bids, b.last);
            }
            return a;
        }
    }

    private static final class MostRows extends ProcessWindowFunction<Values.Most, Row, Integer, TimeWindow> {
        @Override
        public void process(Integer all, Context context, Iterable<Values.Most> mosts, Collector<Row> out) {
            Values.Most m = mosts.iterator().next();
            Arrays.sort(m.auctions, 0, m.n);
            for (int i = 0; i < m.n; i++) {
                out.collect(new Row().set(m.auctions[i], m.bids, context.window().getEnd(), 0, m.last));
            }
        }
    }

    private static DataStream<Row> q7(DataStream<NexmarkEvent> in, boolean forward) {
        return keyed(offers(in, forward), o -> 0, BasicTypeInfo.INT_TYPE_INFO, forward).window(TumblingEventTimeWindows.of(Duration.ofSeconds(10)))
                .reduce((a, b) -> b.price > a.price ? b : a).returns(Offer.TYPE).setParallelism(1)
                .map(o -> new Row().set(o)).returns(Row.TYPE).setParallelism(1);
    }

    private static DataStream<Row> q8(DataStream<NexmarkEvent> in, boolean forward) {
        DataStream<Values.Registered> people = in.flatMap((FlatMapFunction<NexmarkEvent, Values.Registered>) (e, out) -> {
            if (e.kind == NexmarkEvent.PERSON) {
                Values.Registered r = new Values.Registered();
                r.id = e.person.id;
                r.name = e.person.name;
                r.at = e.person.at;
                out.collect(r);
            }
        }).returns(Values.Registered.TYPE).setParallelism(1);
        DataStream<Values.Opened> auctions = in.flatMap((FlatMapFunction<NexmarkEvent, Values.Opened>) (e, out) -> {
            if (e.kind == NexmarkEvent.AUCTION) {
                Values.Opened o = new Values.Opened();
                o.seller = e.auction.seller;
                o.at = e.auction.at;
                o.n = e.n;
                out.collect(o);
            }
        }).returns(Values.Opened.TYPE).setParallelism(1);
        return people.coGroup(auctions).where(p -> p.id, BasicTypeInfo.LONG_TYPE_INFO).equalTo(a -> a.seller, BasicTypeInfo.LONG_TYPE_INFO)
                .window(TumblingEventTimeWindows.of(Duration.ofSeconds(10))).apply(new NewSellers(), Row.TYPE);
    }

    private static final class NewSellers implements CoGroupFunction<Values.Registered, Values.Opened, Row> {
        @Override
        public void coGroup(Iterable<Values.Registered> people, Iterable<Values.Opened> auctions, Collector<Row> out) {
            Iterator<Values.Registered> first = people.iterator();
            Values.Opened last = null;
            for (Values.Opened a : auctions) {
                last = a;
            }
            if (!first.hasNext() || last == null) {
                return;
            }
            Values.Registered p = first.next();
            Row r = new Row().set(p.id, p.at / 10_000 * 10_000, 0, 0, last.n);
            r.text = p.name;
            out.collect(r);
        }
    }

    private static DataStream<Row> q11(DataStream<NexmarkEvent> in, boolean forward) {
        return byBidder(in, forward).window(EventTimeSessionWindows.withGap(Duration.ofSeconds(10)))
                .aggregate(new Counting(), new OfWindow(), Values.Counted.TYPE, Values.Counted.TYPE, Values.Counted.TYPE)
                .map(c -> new Row().set(c.key, c.bids, c.start, c.end, c.last)).returns(Row.TYPE);
    }

    /** Keeps a value per key, for so long after its last change. The row is the same one again and again. */
    private abstract static class Keeping<K, V> extends KeyedProcessFunction<K, Offer, Row> {
        private final Class<?> of;
        private final TypeInformation<V> type;
        private final Duration ttl;
        private transient ValueState<V> state;
        private transient Row row;

        Keeping(Class<?> of, TypeInformation<V> type, Duration ttl) {
            this.of = of;
            this.type = type;
            this.ttl = ttl;
        }

        @Override
        public void open(OpenContext context) {
            ValueStateDescriptor<V> d = new ValueStateDescriptor<>(of.getSimpleName(), type);
            d.enableTimeToLive(StateTtlConfig.newBuilder(ttl).build());
            state = getRuntimeContext().getState(d);
            row = new Row();
        }

        @Override
        public void processElement(Offer o, Context context, Collector<Row> out) throws Exception {
            V v = add(state.value(), o);
            state.update(v);
            if (row(v, o, row)) {
                out.collect(row);
            }
        }

        abstract V add(V v, Offer o);

        abstract boolean row(V v, Offer o, Row row);
    }

    private static DataStream<Row> q17(DataStream<NexmarkEvent> in, boolean forward) {
        return keyed(offers(in, forward), o -> Tuple2.of(o.auction, o.at / 86_400_000), PAIR, forward).process(new Statistics(), Row.TYPE);
    }

    private static final class Statistics extends Keeping<Tuple2<Long, Long>, Values.Daily> {
        Statistics() {
            super(Values.Daily.class, Values.Daily.TYPE, Duration.ofHours(24));
        }

        @Override
        Values.Daily add(Values.Daily d, Offer o) {
            if (d == null) {
                d = new Values.Daily();
            }
            d.add(o);
            return d;
        }

        @Override
        boolean row(Values.Daily d, Offer o, Row row) {
            row.set(o.auction, d.bids, d.sum / d.bids, d.max, o.n);
            return true;
        }
    }

    private static DataStream<Row> q18(DataStream<NexmarkEvent> in, boolean forward) {
        return keyed(offers(in, forward), o -> Tuple2.of(o.bidder, o.auction), PAIR, forward).process(new Last(), Row.TYPE);
    }

    private static final class Last extends Keeping<Tuple2<Long, Long>, Offer> {
        Last() {
            super(Offer.class, Offer.TYPE, Duration.ofHours(1));
        }

        @Override
        Offer add(Offer before, Offer o) {
            return o;
        }

        @Override
        boolean row(Offer last, Offer o, Row row) {
            row.set(o);
            return true;
        }
    }

    private static DataStream<Row> q19(DataStream<NexmarkEvent> in, boolean forward) {
        return byAuction(in, forward).process(new Highest(), Row.TYPE);
    }

    private static final class Highest extends Keeping<Long, Values.Top> {
        private transient boolean changed;

        Highest() {
            super(Values.Top.class, Values.Top.TYPE, Duration.ofHours(1));
        }

        @Override
        Values.Top add(Values.Top t, Offer o) {
            if (t == null) {
                t = new Values.Top();
            }
            changed = t.add(o.price);
            return t;
        }

        @Override
        boolean row(Values.Top t, Offer o, Row row) {
            row.set(o.auction, o.price, t.prices[0], t.n, o.n);
            return changed;
        }
    }

    /** Compares a bid with the last that a step has taken. */
    private static final class Compared extends IterativeCondition<Offer> {
        private final String step;
        private final boolean above;
        private final boolean another;

        Compared(String step, boolean above, boolean another) {
            this.step = step;
            this.above = above;
            this.another = another;
        }

        @Override
        public boolean filter(Offer o, Context<Offer> had) throws Exception {
            Offer last = null;
            for (Offer h : had.getEventsForPattern(step)) {
                last = h;
            }
            return last != null && (above ? o.price > last.price : o.price < last.price) && (!another || o.bidder != last.bidder);
        }
    }

    private static IterativeCondition<Offer> above(String step) {
        return new Compared(step, true, false);
    }

    /** A match's key, the prices of its first and last event, and how many it has. */
    private static final class Ends extends PatternProcessFunction<Offer, Row> {
        private final boolean byBidder;
        private final String first;
        private final String last;

        Ends(boolean byBidder, String first, String last) {
            this.byBidder = byBidder;
            this.first = first;
            this.last = last;
        }

        @Override
        public void processMatch(Map<String, List<Offer>> match, Context context, Collector<Row> out) {
            int n = 0;
            for (List<Offer> of : match.values()) {
                n += of.size();
            }
            Offer a = match.get(first).get(0);
            List<Offer> lasts = match.get(last);
            Offer b = lasts.get(lasts.size() - 1);
            out.collect(new Row().set(byBidder ? a.bidder : a.auction, a.price, b.price, n, b.n));
        }
    }

    private static DataStream<Row> cep0(DataStream<NexmarkEvent> in, boolean forward) {
        Pattern<Offer, Offer> p = Pattern.<Offer>begin("one").next("two").where(above("one")).next("three").where(above("two")).within(Duration.ofSeconds(10));
        return CEP.pattern(byBidder(in, forward), p).process(new Ends(true, "one", "three"), Row.TYPE);
    }

    private static DataStream<Row> cep1(DataStream<NexmarkEvent> in, boolean forward) {
        Pattern<Offer, Offer> p = Pattern.<Offer>begin("bid").followedBy("outbid").where(new Compared("bid", true, true)).within(Duration.ofSeconds(10));
        return CEP.pattern(byAuction(in, forward), p).process(new Ends(false, "bid", "outbid"), Row.TYPE);
    }

    private static DataStream<Row> cep2(DataStream<NexmarkEvent> in, boolean forward) {
        Pattern<Offer, Offer> p = Pattern.<Offer>begin("last").notFollowedBy("another").within(Duration.ofSeconds(2));
        return CEP.pattern(byAuction(in, forward), p).process(new Ends(false, "last", "last"), Row.TYPE);
    }

    private static DataStream<Row> cep3(DataStream<NexmarkEvent> in, boolean forward) {
        Pattern<Offer, Offer> p = Pattern.<Offer>begin("top", AfterMatchSkipStrategy.skipPastLastEvent())
                .next("fall").where(new Compared("top", false, false)).times(2).consecutive().next("recovery").where(above("top")).within(Duration.ofSeconds(10));
        return CEP.pattern(byAuction(in, forward), p).process(new Ends(false, "top", "recovery"), Row.TYPE);
    }
}

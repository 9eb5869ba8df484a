// Checks queries of Log Analytics with the service's own parser and the columns of the tables that
// they read. Standard input is a JSON list of queries; standard output is a list of complaints for each.
//
//     node infra/queries.js <folder of @kusto/language-service-next> < queries.json
'use strict';

const path = require('path');
const folder = process.argv[2];
require(path.join(folder, 'bridge.min.js'));
require(path.join(folder, 'Kusto.Language.Bridge.min.js'));

/* global Kusto */
const { KustoCode, GlobalState, Symbols } = Kusto.Language;

// learn.microsoft.com/azure/azure-monitor/reference/tables/
const COMMON = `TenantId: string, TimeGenerated: datetime, OperationId: string, OperationName: string,
  ParentId: string, Properties: dynamic, AppRoleName: string, AppRoleInstance: string, AppVersion: string,
  ClientType: string, ClientIP: string, IKey: string, ItemCount: int, ResourceGUID: string,
  SDKVersion: string, SessionId: string, UserId: string, Type: string, SourceSystem: string, _ResourceId: string`;
const TABLES = {
  AppTraces: `${COMMON}, Message: string, SeverityLevel: int`,
  AppRequests: `${COMMON}, Id: string, Name: string, ResultCode: string, Success: bool, Url: string,
    DurationMs: real, Source: string, Measurements: dynamic`,
  AppMetrics: `${COMMON}, Name: string, Sum: real, Min: real, Max: real`,
  FunctionAppLogs: `TenantId: string, TimeGenerated: datetime, Message: string, Level: string, LevelId: int,
    Category: string, FunctionName: string, FunctionInvocationId: string, ExceptionType: string,
    ExceptionMessage: string, HostInstanceId: string, HostVersion: string, Type: string, _ResourceId: string`,
};

const tables = Object.entries(TABLES).map(([name, columns]) => Symbols.TableSymbol.From(`(${columns})`).WithName(name));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.$ctor1('workspace', tables));

function complaints(query) {
  const found = KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
  const list = [];
  for (let i = 0; i < found.Count; i += 1) {
    const one = found.getItem(i);
    list.push(`${one.Message} (at ${query.slice(one.Start, one.Start + 30)})`);
  }
  return list;
}

const queries = JSON.parse(require('fs').readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(queries.map(complaints)));
